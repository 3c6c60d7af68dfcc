"""A report as JUnit XML, which every CI service shows: one test case for each engine and budget."""

from __future__ import annotations

from xml.etree import ElementTree

from unblur.compare.report import EngineResult, Report
from unblur.compare.tell.table import check_text
from unblur.core.console import printable


def render_junit(report: Report) -> bytes:
    """XML in UTF-8. A broken budget is a failure; a frame that could not be compared, or an engine that crashed, is an
    error; one without a budget, or one that this machine cannot run and that has none of its own, is skipped."""
    name = f"unblur: engines of {printable(report.network)}"
    root = ElementTree.Element("testsuites", {"name": name})
    suite = ElementTree.SubElement(root, "testsuite", {"name": name, "timestamp": report.created_utc})
    for engine in report.engines:
        _engine(suite, report, engine)
    for failure in report.failures:
        case = _case(suite, failure.engine or "every engine", f"frame {failure.frame}")
        ElementTree.SubElement(case, "error", {"message": printable(failure.reason)})
    for kind, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        count = str(sum(1 for _ in suite.iter(tag)))
        root.set(kind, count)
        suite.set(kind, count)
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, "utf-8", xml_declaration=True)
    return text + b"\n"


def _engine(suite: ElementTree.Element, report: Report, engine: EngineResult) -> None:
    if engine.crashed:
        ElementTree.SubElement(_case(suite, engine.name, "crash"), "error", {"message": printable(engine.crashed)})
    elif not engine.checks and not engine.is_reference:
        case = _case(suite, engine.name, "no budget")
        reason = engine.not_measured or "no budget was held against it"
        ElementTree.SubElement(case, "skipped", {"message": printable(reason)})
    for check in engine.checks:
        case = _case(suite, engine.name, f"{check.budget} {check.limit:g}")
        if not check.kept:
            reason = f" ({engine.not_measured})" if engine.not_measured else report.remark_on(engine, check)
            told = f"{check_text(check)}{reason}"
            ElementTree.SubElement(case, "failure", {"message": printable(told)})


def _case(suite: ElementTree.Element, engine: str, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", {"classname": printable(engine), "name": printable(name)})
