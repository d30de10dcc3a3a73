"""Verdicts as JUnit XML: FAILED is a failure, UNKNOWN an error, as CI systems tell them apart."""

import re
from xml.etree import ElementTree as xml

from llm42_sglang.repro.judge import Checked, Judged, Verdict

_ELEMENTS = {Verdict.FAILED: "failure", Verdict.UNKNOWN: "error"}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(checked: Checked, name: str) -> str:
    """One suite, a test case for each case."""
    root = xml.Element("testsuites")
    suite = _element(
        root,
        "testsuite",
        name=name,
        tests=str(len(checked.cases)),
        failures=str(checked.count(Verdict.FAILED)),
        errors=str(checked.count(Verdict.UNKNOWN)),
        time=f"{sum(map(_seconds, checked.cases)):.3f}",
    )
    properties = _element(suite, "properties")
    for key, fingerprint in (("recorded", checked.recorded), ("observed", checked.observed)):
        value = fingerprint.digest if fingerprint else "none"
        _element(properties, "property", name=f"{key}_fingerprint", value=value)
    _element(properties, "property", name="fingerprints", value=checked.change)
    for judged in checked.cases:
        seconds = f"{_seconds(judged):.3f}"
        case = _element(suite, "testcase", classname=name, name=judged.case.id, time=seconds)
        if element := _ELEMENTS.get(judged.verdict):
            failure = _element(case, element, type=judged.verdict.value, message=judged.reason)
            failure.text = _clean(f"{judged.reason}\nprompt: {judged.case.question}")
    xml.indent(root)
    declaration = '<?xml version="1.0" encoding="UTF-8"?>'  # the file is written as UTF-8
    return f"{declaration}\n{xml.tostring(root, encoding='unicode')}\n"


def _element(parent: xml.Element, tag: str, **attributes: str) -> xml.Element:
    return xml.SubElement(parent, tag, {key: _clean(text) for key, text in attributes.items()})


def _seconds(judged: Judged) -> float:
    return sum(one.answer.end_to_end_s for one in judged.observations)


def _clean(text: str) -> str:
    """Without the characters that XML cannot carry."""
    return _NOT_XML.sub("\ufffd", text)
