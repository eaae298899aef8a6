"""Networks that look at images: classifiers, feature extractors, perceptual distances."""
