"""The verdicts as JUnit XML: FAILED is a failure there, and UNKNOWN an error."""

import re
from xml.etree import ElementTree as xml

from llm42_sglang.repro.judge import CaseResult, CheckResult, CheckVerdict

_ELEMENTS = {CheckVerdict.FAILED: "failure", CheckVerdict.UNKNOWN: "error"}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(check: CheckResult, name: str) -> str:
    """The XML document of a check: one suite, called `name`, with a test case for each case."""
    root = xml.Element("testsuites")
    suite = _element(
        root,
        "testsuite",
        name=name,
        tests=str(len(check.cases)),
        failures=str(check.count(CheckVerdict.FAILED)),
        errors=str(check.count(CheckVerdict.UNKNOWN)),
        time=f"{sum(map(_seconds, check.cases)):.3f}",
    )
    properties = _element(suite, "properties")
    for key, fingerprint in (("recorded", check.recorded), ("observed", check.observed)):
        value = fingerprint.digest if fingerprint else "none"
        _element(properties, "property", name=f"{key}_fingerprint", value=value)
    _element(properties, "property", name="fingerprints", value=check.change)
    for result in check.cases:
        seconds = f"{_seconds(result):.3f}"
        case = _element(suite, "testcase", classname=name, name=result.case.id, time=seconds)
        if element := _ELEMENTS.get(result.verdict):
            failure = _element(case, element, type=result.verdict.value, message=result.reason)
            failure.text = _clean(f"{result.reason}\nprompt: {result.case.question}")
    xml.indent(root)
    declaration = '<?xml version="1.0" encoding="UTF-8"?>'  # the file is written as UTF-8
    return f"{declaration}\n{xml.tostring(root, encoding='unicode')}\n"


def _element(parent: xml.Element, tag: str, **attributes: str) -> xml.Element:
    return xml.SubElement(parent, tag, {key: _clean(text) for key, text in attributes.items()})


def _seconds(result: CaseResult) -> float:
    return sum(observation.answer.end_to_end_s for observation in result.observations)


def _clean(text: str) -> str:
    """The text, with a replacement for each character that XML cannot hold."""
    return _NOT_XML.sub("\ufffd", text)
