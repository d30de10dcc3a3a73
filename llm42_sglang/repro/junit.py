"""Verdicts as JUnit XML: FAILED is a failure, UNKNOWN an error, as CI systems tell them apart."""

import re
from xml.etree import ElementTree as xml

from llm42_sglang.repro.judge import Checked, Judged, Verdict

_ELEMENTS = {Verdict.FAILED: "failure", Verdict.UNKNOWN: "error"}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(checked: Checked, name: str) -> str:
    """One suite, a test case for each case."""
    suite = xml.Element(
        "testsuite",
        name=_clean(name),
        tests=str(len(checked.cases)),
        failures=str(checked.count(Verdict.FAILED)),
        errors=str(checked.count(Verdict.UNKNOWN)),
        time=f"{sum(map(_seconds, checked.cases)):.3f}",
    )
    properties = xml.SubElement(suite, "properties")
    for key, fingerprint in (("recorded", checked.recorded), ("observed", checked.observed)):
        value = fingerprint.digest if fingerprint else "none"
        xml.SubElement(properties, "property", name=f"{key}_fingerprint", value=value)
    xml.SubElement(properties, "property", name="fingerprints", value=_clean(checked.change))
    for judged in checked.cases:
        suite.append(_test_case(judged, name))
    root = xml.Element("testsuites")
    root.append(suite)
    xml.indent(root)
    declaration = '<?xml version="1.0" encoding="UTF-8"?>'  # the file is written as UTF-8
    return f"{declaration}\n{xml.tostring(root, encoding='unicode')}\n"


def _test_case(judged: Judged, name: str) -> xml.Element:
    case = xml.Element(
        "testcase",
        classname=_clean(name),
        name=_clean(judged.case.id),
        time=f"{_seconds(judged):.3f}",
    )
    if element := _ELEMENTS.get(judged.verdict):
        reason = _clean(judged.reason)
        failure = xml.SubElement(case, element, type=judged.verdict.value, message=reason)
        failure.text = _clean(f"{judged.reason}\nprompt: {judged.case.question}")
    return case


def _seconds(judged: Judged) -> float:
    return sum(one.answer.end_to_end_s for one in judged.observations)


def _clean(text: str) -> str:
    """Without the characters that XML cannot carry."""
    return _NOT_XML.sub("\ufffd", text)
