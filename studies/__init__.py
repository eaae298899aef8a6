"""Programs that compare nextscale with its peers and measure what its documentation claims."""
