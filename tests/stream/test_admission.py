from __future__ import annotations

import pytest

from gateway.stream.admission import Admission, NotAdmitted


def test_publishers_are_admitted_unless_it_drains_or_cannot_keep_up() -> None:
    overloaded = False
    admission = Admission(lambda: overloaded)
    admission.check()
    overloaded = True
    with pytest.raises(NotAdmitted) as refused:
        admission.check()
    assert refused.value.code == "overloaded"
    admission.draining = True
    with pytest.raises(NotAdmitted) as refused:
        admission.check()
    assert refused.value.code == "draining"
