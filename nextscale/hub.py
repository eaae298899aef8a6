"""Files from repositories on the Hugging Face hub; what goes wrong there, in one line."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from nextscale.errors import UsageError

# What the client raises at an answer that is no JSON, or JSON of another kind.
NO_JSON = (ValueError, TypeError, KeyError, AttributeError, RecursionError)


def download(repository: str, files: Collection[str]) -> Path:
    """Fetches those of the files that a hub repository has; returns the directory in the cache."""
    from huggingface_hub import snapshot_download

    with hub_errors(repository):
        return Path(snapshot_download(repository, allow_patterns=list(files)))


@contextmanager
def hub_errors(repository: str) -> Iterator[None]:
    """Turns what goes wrong between here and the hub into a UsageError of one line."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        HTTPError,  # the base of the HTTP library's errors, whichever the client uses
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        yield
    except GatedRepoError:
        raise UsageError(
            f"{repository} is gated on the hub; accept its terms there and log in with "
            "`hf auth login`"
        ) from None
    except RepositoryNotFoundError:
        raise UsageError(
            f"{repository} is neither a directory here nor a repository that you may read on the "
            "hub; check the name, or log in with `hf auth login` if it is private"
        ) from None
    except LocalEntryNotFoundError:
        raise UsageError(
            f"{repository} is neither a directory here nor in the hub's cache, and the hub cannot "
            "be reached; check the name, the connection, HF_ENDPOINT and HF_HUB_OFFLINE"
        ) from None
    except (HTTPError, HFValidationError, OSError, *NO_JSON) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(
            f"the hub refuses {repository} or cannot be reached ({reason}); check the name, the "
            "connection, and `hf auth whoami`"
        ) from None
