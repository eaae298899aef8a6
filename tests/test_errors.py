import pytest

from nextscale.errors import UsageError, check_keywords, did_you_mean, unknown


def test_a_mistyped_name_is_guessed_whatever_its_case():
    known = ("Ankle boot", "bag", "coat")
    assert did_you_mean("ankel BOOT", known) == "; did you mean 'Ankle boot'?"
    assert did_you_mean("trousers", known) == ""
    assert did_you_mean(3, known) == ""


def test_an_unknown_name_is_told_with_what_may_be_given():
    assert str(unknown("preset", "d99", ["small"])) == "unknown preset 'd99'; known: small"
    said = str(unknown("model", "smal", ["small"], "give a name"))
    assert said == "unknown model 'smal'; did you mean 'small'? give a name"


def test_keywords_of_several_functions():
    def outer(image, *, rule, **drawing): ...

    def inner(*, cfg=0, labels=(), constrain=None): ...

    check_keywords({"rule": 1, "cfg": 2}, outer, inner)
    for name in ("image", "drawing", "labels"):
        with pytest.raises(UsageError, match=f"unknown option '{name}'.* rule, cfg, constrain$"):
            check_keywords([name], outer, inner, hidden=("labels",))
