from __future__ import annotations

import pytest

from gateway.stream.admission import Admission, NotAdmitted


def test_publishers_are_admitted_unless_it_drains_or_cannot_keep_up() -> None:
    overloaded = False
    admission = Admission(lambda: overloaded)
    admission.check()
    admission.check_viewer()
    overloaded = True
    for check in (admission.check, admission.check_viewer):
        with pytest.raises(NotAdmitted) as refused:
            check()
        assert refused.value.code == "overloaded"
    admission.draining = True
    with pytest.raises(NotAdmitted) as refused:
        admission.check()
    assert refused.value.code == "draining"


def test_viewers_are_admitted_while_it_drains() -> None:
    admission = Admission()
    admission.draining = True
    admission.check_viewer()


def test_nobody_is_admitted_where_hardly_any_more_files_may_be_opened() -> None:
    admission = Admission(few_files=lambda: True)
    for check in (admission.check, admission.check_viewer):
        with pytest.raises(NotAdmitted, match="ulimit -n"):
            check()
