"""What models write, in the format of each parser that SGLang has: calls of tools, and reasoning.

In `call`, NAME, KEY and VALUE stand for the parts of a call with one argument, ARGUMENTS for it as
JSON, LITERAL for the value as JSON, and TYPE and QUOTED for what some formats say about a string.
"""

# ruff: noqa: RUF001

import json
import re
from collections.abc import Iterable
from typing import NamedTuple

CALLS = (("f", "x", 1), ("g", "s", "two words"))
LEAD = "Sure.\n"


class Calls(NamedTuple):
    """How calls of tools are written."""

    call: str
    begin: str = ""
    between: str = ""
    end: str = ""
    lead: str = LEAD  # what is written before them

    def text(self, lead: bool, count: int) -> str:
        """With content before the calls or without."""
        calls = self.between.join(_filled(self.call, i, *CALLS[i]) for i in range(count))
        return (self.lead if lead else "") + self.begin + calls + self.end


def _filled(template: str, index: int, name: str, key: str, value: object) -> str:
    is_text = isinstance(value, str)
    parts = {
        "INDEX": str(index),
        "NAME": name,
        "ARGUMENTS": json.dumps({key: value}),
        "KEY": key,
        "LITERAL": json.dumps(value),
        "QUOTED": f'<|"|>{value}<|"|>' if is_text else str(value),
        "VALUE": str(value),
        "IS_STRING": "true" if is_text else "false",
        "TYPE": "string" if is_text else "number",
    }
    for part, text in parts.items():
        template = template.replace(part, text)
    return template


_XML = "<arg_key>KEY</arg_key>\n<arg_value>VALUE</arg_value>"
_GLM = Calls(f"<tool_call>NAME\n{_XML}\n</tool_call>", between="\n")
_JSON = '{"name": "NAME", "arguments": ARGUMENTS}'
_QWEN = Calls(f"<tool_call>\n{_JSON}\n</tool_call>", between="\n")
_FUNCTION = Calls(
    "<tool_call>\n<function=NAME>\n<parameter=KEY>\nVALUE\n</parameter>\n</function>\n</tool_call>",
    between="\n",
)
_INVOKE = '<invoke name="NAME">\n<parameter name="KEY">VALUE</parameter>\n</invoke>\n'
_BEAM = Calls(
    " to=NAME<|channel|>analysis <|constrain|>xml<|message|>"
    '<rfl:parameter name="KEY">\nVALUE\n</rfl:parameter>',
    between="<|end|><|start|>assistant",
    end="<|call|>",
    lead="<|channel|>analysis<|message|>Sure.<|end|><|start|>assistant",
)


def _dsml(block: str, tag: str = "") -> Calls:
    mark = f"｜DSML｜{tag}"
    parameter = f'<{mark}parameter name="KEY" string="IS_STRING">VALUE</{mark}parameter>'
    call = f'<{mark}invoke name="NAME">\n{parameter}\n</{mark}invoke>\n'
    return Calls(call, begin=f"<{mark}{block}>\n", end=f"</{mark}{block}>")


TOOL_CALLS = {
    "apertus2509": Calls('{"NAME": ARGUMENTS}', "<|tools_prefix|>[", ", ", "]<|tools_suffix|>"),
    "beam": _BEAM,
    "cohere_command4": Calls(
        '{"tool_call_id": "INDEX", "tool_name": "NAME", "parameters": ARGUMENTS}',
        "<|START_ACTION|>[",
        ", ",
        "]<|END_ACTION|>",
    ),
    "deepseekv3": Calls(
        "<｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\n```json\nARGUMENTS\n```<｜tool▁call▁end｜>",
        "<｜tool▁calls▁begin｜>",
        "\n",
        "<｜tool▁calls▁end｜>",
    ),
    "deepseekv31": Calls(
        "<｜tool▁call▁begin｜>NAME<｜tool▁sep｜>ARGUMENTS<｜tool▁call▁end｜>",
        "<｜tool▁calls▁begin｜>",
        "",
        "<｜tool▁calls▁end｜>",
    ),
    "deepseekv32": _dsml("function_calls"),
    "deepseekv4": _dsml("tool_calls"),
    "deepseekv41": _dsml("calls", " "),
    "dots": Calls(_INVOKE, "<dots_function_call>\n", "", "</dots_function_call>"),
    "glm": _GLM,
    "glm45": _GLM,
    "glm47": Calls(f"<tool_call>NAME{_XML}</tool_call>".replace("\n", "")),
    "gpt-oss": Calls(
        "<|channel|>commentary to=functions.NAME<|constrain|>json<|message|>ARGUMENTS<|call|>",
        "<|start|>assistant",
        "<|start|>assistant",
        lead="<|channel|>commentary<|message|>Sure.\n<|end|>",
    ),
    "k2_horizon": Calls(
        "<ifm|tool_call>NAME<ifm|arg_key>KEY</ifm|arg_key>"
        "<ifm|arg_value>VALUE</ifm|arg_value></ifm|tool_call>",
        "<ifm|tool_calls>",
        "",
        "</ifm|tool_calls>",
    ),
    "kimi_k2": Calls(
        "<|tool_call_begin|>functions.NAME:INDEX<|tool_call_argument_begin|>ARGUMENTS"
        "<|tool_call_end|>",
        "<|tool_calls_section_begin|>",
        "",
        "<|tool_calls_section_end|>",
    ),
    "kimi_k3": Calls(
        '<|open|>call tool="NAME" index="INDEX"<|sep|>'
        '<|open|>argument key="KEY" type="TYPE"<|sep|>VALUE<|close|>argument<|sep|>'
        "<|close|>call<|sep|>",
        "<|open|>tools<|sep|>",
        "",
        "<|close|>tools<|sep|>",
        lead="<|open|>response<|sep|>Sure.\n<|close|>response<|sep|>",
    ),
    "lfm2": Calls("NAME(KEY=LITERAL)", "<|tool_call_start|>[", ", ", "]<|tool_call_end|>"),
    "ling3": _GLM,
    "llama3": Calls(_JSON, "<|python_tag|>", ";"),
    "mimo": Calls(
        "<tool_call>\n<function=NAME>\n<parameter=KEY>VALUE</parameter>\n</function>\n</tool_call>",
        between="\n",
    ),
    "minicpm5": Calls('<function name="NAME"><param name="KEY">VALUE</param></function>'),
    "mistral": Calls(_JSON, "[TOOL_CALLS] [", ", ", "]"),
    "muse": Calls(
        " to=functions.NAME<|message|><atem:function_calls>\n"
        '<atem:invoke name="NAME">\n<atem:parameter name="KEY">VALUE</atem:parameter>\n'
        "</atem:invoke>\n</atem:function_calls>",
        between="<|eom|><|start|>assistant",
        end="<|eot|>",
        lead=" to=user<|message|>Sure.\n<|eom|><|start|>assistant",
    ),
    "poolside_v1": _GLM,
    "pythonic": Calls("NAME(KEY=LITERAL)", "[", ", ", "]"),
    "qwen": _QWEN,
    "qwen25": _QWEN,
    "qwen3_coder": _FUNCTION,
    "spark25": Calls("<tool_call>NAME\n" + _XML.replace("\n", "") + "\n</tool_call>", between="\n"),
    "step3": Calls(
        '<｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name="NAME">\n'
        '<steptml:parameter name="KEY">VALUE</steptml:parameter>\n'
        "</steptml:invoke><｜tool_call_end｜>\n",
        "<｜tool_calls_begin｜>\n",
        "",
        "<｜tool_calls_end｜>",
    ),
    "step3p5": _FUNCTION,
    "minimax-m2": Calls(_INVOKE, "<minimax:tool_call>\n", "", "</minimax:tool_call>"),
    "minimax-m3": Calls(
        '@<invoke name="NAME">@<KEY>VALUE@</KEY>@</invoke>'.replace("@", "]<]minimax[>["),
        "]<]minimax[>[<tool_call>",
        "",
        "]<]minimax[>[</tool_call>",
    ),
    "nanbeige": _FUNCTION,
    "trinity": _QWEN,
    "interns1": Calls(
        '<|action_start|> <|plugin|>\n{"name": "NAME", "parameters": ARGUMENTS}<|action_end|>'
    ),
    "hermes": Calls(f"<tool_call>{_JSON}</tool_call>", between="\n"),
    "hunyuan": Calls(
        f"<tool_call>NAME<tool_sep>\n{_XML}\n</tool_call>\n", "<tool_calls>\n", "", "</tool_calls>"
    ),
    "gigachat3": Calls(_JSON, "<|function_call|>"),
    "gigachat35": Calls(
        '<｜GCML｜invoke name="NAME">\n'
        '<｜GCML｜parameter name="KEY" string="IS_STRING">VALUE</｜GCML｜parameter>\n'
        "</｜GCML｜invoke>\n",
        "<｜GCML｜tool_calls>\n",
        "",
        "</｜GCML｜tool_calls>",
    ),
    "gemma4": Calls("<|tool_call>call:NAME{KEY:QUOTED}<tool_call|>"),
    "inkling": Calls(
        '<|message_model|>NAME<|content_invoke_tool_json|>{"name":"NAME","args":ARGUMENTS}'
        "<|end_message|>",
        lead="<|message_model|><|content_text|>Sure.\n<|end_message|>",
    ),
    "iquest_q1": Calls(f"<iquest_tool_call>NAME\n{_XML}\n</iquest_tool_call>", between="\n"),
    "response_template": _BEAM,
}

FORCED = Calls('{"name": "NAME", "parameters": ARGUMENTS}', "[", ", ", "]")

_THINK = "<think>\nLet me see.\n</think>\n\nIt is 1."
_THINKERS = """
    deepseek-r1 deepseek-v3 deepseek-v4 deepseek-v41 dots gigachat35 glm45 granite_thinking_parser
    hunyuan interns1 iquest_q1 kimi_k2 ling3 mimo minimax minimax-append-think nanbeige nemotron_3
    poolside_v1 qwen3 qwen3-thinking step3 step3p5
"""
REASONING = dict.fromkeys(_THINKERS.split(), _THINK) | {
    "apertus2509": "<|inner_prefix|>Let me see.<|inner_suffix|>It is 1.",
    "beam": "<|channel|>analysis<|message|>Let me see.<|end|><|start|>assistant"
    "<|channel|>final<|message|>It is 1.<|return|>",
    "gpt-oss": "<|channel|>analysis<|message|>Let me see.<|end|><|start|>assistant"
    "<|channel|>final<|message|>It is 1.<|return|>",
    "k2_horizon": "<ifm|think>Let me see.</ifm|think>\nIt is 1.",
    "kimi": "◁think▷Let me see.◁/think▷It is 1.",
    "kimi_k3": "<|open|>think<|sep|>Let me see.<|close|>think<|sep|>"
    "<|open|>response<|sep|>It is 1.<|close|>response<|sep|><|close|>message<|sep|>",
    "muse": " to=self<|message|>Let me see.<|eom|><|start|>assistant"
    " to=user<|message|>It is 1.<|eot|>",
    "minimax-m3": "<mm:think>Let me see.</mm:think>It is 1.",
    "mistral": "[THINK]Let me see.[/THINK]It is 1.",
    "gemma4": "<|channel>thought\nLet me see.<channel|>It is 1.",
    "inkling": "<|message_model|><|content_thinking|>Let me see.<|end_message|>"
    "<|message_model|><|content_text|>It is 1.<|end_message|>",
    "cohere_command4": "Let me see.<|END_THINKING|><|START_TEXT|>It is 1.<|END_TEXT|>",
}
REASONING["response_template"] = REASONING["beam"]

_MARK = re.compile(r"｜DSML｜|<(?!/?｜DSML)[^\s<>=]+>|\[/?[A-Z_]+\]|◁/?think▷|\]<\]minimax\[>\[")
_OF_PROMPTS = [
    "<｜begin▁of▁sentence｜>",
    "<｜System｜>",
    "<｜User｜>",
    "<｜Assistant｜>",
]  # DeepSeek's


def marks_in(texts: Iterable[str]) -> list[str]:
    """What is one token to the models that write it."""
    return sorted({mark for text in texts for mark in _MARK.findall(text)}) + _OF_PROMPTS
