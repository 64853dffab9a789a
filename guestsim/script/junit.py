"""Reports as JUnit XML, in the form that CI systems read: one test suite a target, one test case a script."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guestsim.script.run import ScriptReport


def to_xml(reports: Sequence[ScriptReport]) -> str:
    """The document, with its declaration."""
    root = ElementTree.Element("testsuites")
    for target in dict.fromkeys(report.target for report in reports):
        _suite(root, target, [report for report in reports if report.target == target])
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _suite(root: ElementTree.Element, target: str, reports: Sequence[ScriptReport]) -> None:
    counts = {
        "tests": len(reports),
        "failures": sum(not report.ok and report.error is None for report in reports),
        "errors": sum(report.error is not None for report in reports),
        "skipped": sum(report.skipped is not None for report in reports),
    }
    seconds = sum(report.seconds for report in reports)
    attributes = {"name": f"guestsim on {target}", "time": f"{seconds:.3f}"}
    attributes |= {name: str(number) for name, number in counts.items()}
    suite = ElementTree.SubElement(root, "testsuite", attributes)
    for report in reports:
        _case(suite, report)


def _case(suite: ElementTree.Element, report: ScriptReport) -> None:
    where = report.where
    case = ElementTree.SubElement(
        suite,
        "testcase",
        classname=report.file,
        name=f"{report.name} [{where}]",
        time=f"{report.seconds:.3f}",
    )
    if report.skipped is not None:
        ElementTree.SubElement(case, "skipped", message=report.skipped)
    elif not report.ok:
        kind = "error" if report.error is not None else "failure"
        problem = ElementTree.SubElement(case, kind, message=report.failures[0])
        problem.text = "\n".join(report.failures)
    lines = [f"{step.line}: {step.did}: {step.answered}" for step in report.steps]
    ElementTree.SubElement(case, "system-out").text = _printable("\n".join(lines))


def _printable(text: str) -> str:
    """Without the control characters that XML 1.0 cannot carry (§2.2)."""
    return "".join(one if one in "\t\n" or one >= " " else "�" for one in text)
