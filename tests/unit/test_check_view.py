"""How the findings of a check look."""

from __future__ import annotations

import pytest

from solostack.cli.check_view import show_checks
from solostack.errors import HostError
from solostack.flows.check import HostCheck, require_fit
from solostack.host.check_model import Subject, error, info, ok

CHECK = HostCheck(
    host="phys1",
    findings=(
        ok(Subject.CPU, "4 cores"),
        info(Subject.KVM, "not tried", why="only a guest that ran proves it"),
        error(Subject.NIC, "no card \x1b[2Jeth9", why="nothing comes in", todo="name another"),
    ),
)


def test_every_finding_has_a_line_and_its_why_below(capsys: pytest.CaptureFixture[str]) -> None:
    show_checks((CHECK,))

    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "phys1",
        "  ok     cpu    4 cores",
        "  info   kvm    not tried",
        "           why  only a guest that ran proves it",
        "  error  nic    no card [2Jeth9",
        "           why  nothing comes in",
        "         to do  name another",
        "phys1 is NOT fit: 1 errors, 0 warnings",
    ]


def test_only_an_error_makes_a_host_unfit() -> None:
    fit = HostCheck(host="phys2", findings=CHECK.findings[:2])

    assert fit.fit
    require_fit((fit,))
    with pytest.raises(HostError, match="phys1 is not fit"):
        require_fit((fit, CHECK))
