"""Files from repositories on the Hugging Face hub; what goes wrong there, in one line."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from nextscale.errors import UsageError

# What the client raises at an answer that is no JSON, or JSON of another kind.
NOT_UNDERSTOOD = (
    *(ValueError, TypeError, KeyError, AttributeError),
    *(AssertionError, RecursionError),
)


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
    except LocalEntryNotFoundError as error:
        raise UsageError(
            f"{repository} is neither a directory here nor in the hub's cache, and the hub cannot "
            f"be reached ({reason_of(error.__cause__ or error)}); check the name, the connection, "
            "HF_ENDPOINT and HF_HUB_OFFLINE"
        ) from None
    except (HTTPError, HFValidationError, OSError) as error:
        raise UsageError(
            f"the hub refuses {repository} or cannot be reached ({reason_of(error)}); check the "
            "name, the connection, and `hf auth whoami`"
        ) from None
    except NOT_UNDERSTOOD as error:
        raise UsageError(
            f"what answers for the hub about {repository} is not understood ({reason_of(error)}); "
            "check HF_ENDPOINT, and whether a login page or a proxy answers instead"
        ) from None


def reason_of(error: BaseException) -> str:
    """What an error says, in one line; its type if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
