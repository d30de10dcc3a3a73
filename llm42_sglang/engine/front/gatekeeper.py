"""Hooks in the HTTP and tokenizer process: which requests pass, what responses and health say."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sglang.srt.entrypoints.engine import SchedulerInitResult
from sglang.srt.managers.io_struct import GenerateReqInput, TokenizedGenerateReqInput
from sglang.srt.runtime_context import get_observability
from sglang.srt.sampling.sampling_params import SamplingParams

from llm42_sglang.core.config import Config
from llm42_sglang.core.receipts import FACTS_PATH, REFUTED, VERIFY_PATH
from llm42_sglang.engine.front import verify
from llm42_sglang.engine.front.bounded import FrontBounds
from llm42_sglang.engine.front.native import fold_native_field
from llm42_sglang.engine.front.samples import expect_samples, next_sample, settle_seed
from llm42_sglang.engine.front.stream import keep_messages
from llm42_sglang.engine.hooks import after, around, before
from llm42_sglang.engine.metrics import RefusalMetrics
from llm42_sglang.engine.names import (
    INFO_KEY,
    NAMESPACE,
    PROBLEM_KEY,
    RECEIPT_KEY,
    REPLICAS_KEY,
    UPDATE_FAILED,
)
from llm42_sglang.engine.parameters import adjustments_of, plan_of
from llm42_sglang.engine.signing import Signer, load_signer
from llm42_sglang.frontend.administration import AdministrationGate
from llm42_sglang.frontend.bodies import error_response
from llm42_sglang.frontend.claims import refuse_claim
from llm42_sglang.frontend.gates import FieldGate, facts_response
from llm42_sglang.frontend.health import HealthGate
from llm42_sglang.frontend.last_resort import LastResort
from llm42_sglang.frontend.nonce import refuse_nonce
from llm42_sglang.frontend.options import (
    CONSTRAINTS,
    FIELD,
    Refused,
    asks_for_determinism,
    refuse_reserved_key,
    refuse_unsupported,
)
from llm42_sglang.frontend.seeds import refuse_fresh_seed, refuse_unclear_seed
from llm42_sglang.frontend.validation import in_one_line

_MANAGER = "sglang.srt.managers.tokenizer_manager.TokenizerManager"
_HTTP = "sglang.srt.entrypoints.http_server"


class Gatekeeper:
    """The hooks, and what they share: whether the scheduler process is really ours."""

    def __init__(self, config: Config | None):
        self.serving = config is not None  # whether all hooks are registered in this process
        self.metrics = RefusalMetrics(lambda: get_observability().enable_metrics)
        self.begin(config)

    def begin(self, config: Config | None) -> None:
        """Wait for schedulers with these settings; None: for none that would be ours."""
        self.config = config
        self.problem: str | None = (
            "this server was not started with `llm42 serve`, or with the Engine of llm42_sglang"
            if config is None
            else "the scheduler process is not ready"
        )
        # Of the first scheduler, once all are ready: fingerprint, its facts, and the certificate.
        self.proof: dict[str, Any] = {}
        self.bounds = FrontBounds(config)

    @around(f"{_MANAGER}._create_tokenized_object", "refuse or mark requests")
    def admit(self, original, manager, obj, *args, **kwargs) -> Any:
        """Refuse, or mark as deterministic."""
        tokenized = original(manager, obj, *args, **kwargs)
        self.bounds.check_tokenized(tokenized)
        if isinstance(tokenized, TokenizedGenerateReqInput):
            params = tokenized.sampling_params
            if self._check(params, tokenized):
                self._require_own(manager)
                settle_seed(params)  # it looks at who asked for determinism
                params.custom_params = {**(params.custom_params or {}), FIELD: True}
                expect_samples(params)
        return tokenized

    @around(f"{_MANAGER}._send_one_request", "give each of n samples its seed", serving_only=True)
    async def number_samples(self, original, manager, tokenized) -> None:
        """With n > 1, sample i draws with seed + i. A deterministic stream is read message by
        message."""
        if isinstance(tokenized, TokenizedGenerateReqInput):
            tokenized.sampling_params = next_sample(tokenized.sampling_params)
            keep_messages(manager, [tokenized])
        await original(manager, tokenized)

    @around(f"{_HTTP}.serve_generate_request", "refuse before SGLang looks at the request")
    async def refuse_early(self, original, obj: GenerateReqInput, request) -> Any:
        """A stream cannot turn into a 400 later, and SGLang's own complaint about an option would
        not name it as refused."""
        try:
            self.bounds.check(obj, request)
            self.examine(obj)
        except Refused as error:
            # As SGLang answers on this endpoint.
            return JSONResponse({"error": {"message": str(error)}}, error.status_code)
        return await original(obj, request)

    def examine(self, obj: GenerateReqInput) -> bool:
        """Whether a request that SGLang has not looked at yet is deterministic, or a request of
        its batch. Raises Refused."""
        fold_native_field(obj)
        wanted = any([self._check(params, obj) for params in _raw_sampling_params(obj)])
        if wanted:
            _refuse_empty_constraints(obj.sampling_params)
        return wanted

    @around(
        f"{_MANAGER}.update_request_meta_info", "put the receipt into meta_info", serving_only=True
    )
    def add_receipt(
        self, original, manager, meta_info, state, customized_info, index, finish_reason
    ) -> None:
        """One receipt, not a list of them. And the word that the service has ended, which every
        output carries from then on."""
        others = dict(customized_info)
        problems = others.pop(PROBLEM_KEY, None)  # per request of the batch: [problem]
        if problems is not None and problems[index] != [UPDATE_FAILED]:  # its answer says that
            self.problem = problems[index][0].removeprefix("llm42: ")
        receipts = others.pop(RECEIPT_KEY, None)  # per request of the batch: [receipt] or []
        if receipts is not None and receipts[index]:
            (receipt,) = receipts[index]
            signer = None if REFUTED in receipt else self.signer
            meta_info[RECEIPT_KEY] = signer.signed(receipt) if signer else receipt
        original(manager, meta_info, state, others, index, finish_reason)

    @after(
        "sglang.srt.entrypoints.engine.Engine._launch_subprocesses",
        "check that the scheduler's hooks are live",
        serving_only=True,
    )
    def check_schedulers(self, launched: tuple, *args, **kwargs) -> None:
        """Every scheduler must have reported live hooks."""
        if self.config is None or self.bounds.manager is not None:
            return  # SGLang's own Engine, after ours or beside it
        if launched[0] is None:
            return  # the front is on node 0, and this node's schedulers have ended by now
        self.bounds.learn(launched)
        (init,) = (part for part in launched if isinstance(part, SchedulerInitResult))
        reported = _proofs_of(init.scheduler_infos)
        proofs = [proof for proof in reported if proof]
        if not proofs or len(proofs) < len(reported):
            self.problem = "the hooks are not live in the scheduler process"
        elif len({proof["fingerprint"] for proof in proofs}) > 1:
            self.problem = "the replicas have different fingerprints"
        else:
            self.problem = None
            self.proof = proofs[0]

    @property
    def signer(self) -> Signer | None:
        """What signs receipts, in this process only; None if the server does not sign."""
        path = self.config.signing_key if self.config else None
        return None if path is None else load_signer(path)

    @property
    def fingerprint(self) -> str:
        """Empty until the schedulers are ready."""
        return self.proof.get("fingerprint", "")

    @before(f"{_HTTP}._setup_and_run_http_server", "gate /health, and fields that nobody reads")
    def gate_app(self, *args, **kwargs) -> None:
        """Install what looks at every HTTP request."""
        from sglang.srt.entrypoints.http_server import app

        app.add_middleware(FieldGate)
        if self.config is not None:
            app.add_middleware(AdministrationGate, flag=self.bounds.flag)
            app.add_middleware(
                HealthGate,
                problem=lambda: self.problem,
                in_flight=self.bounds.in_flight,
                paused=self.bounds.paused,
            )
            app.add_middleware(LastResort, problem=lambda: self.problem)
            handlers = app.exception_handlers
            handlers[RequestValidationError] = in_one_line(handlers[RequestValidationError])
            app.add_api_route(FACTS_PATH, self.describe_fingerprint, methods=["GET"])
            app.add_api_route(VERIFY_PATH, self.check_claim, methods=["POST"])

    async def describe_fingerprint(self) -> JSONResponse:
        """GET FACTS_PATH: the fingerprint, its facts and the certificate; 503 with a problem. If
        the server signs, its public key too."""
        return facts_response({**self.proof, **self._keys}, self.problem)

    async def check_claim(self, request: Request) -> JSONResponse:
        """POST VERIFY_PATH: the verdict on a claimed answer; 503 with a problem."""
        if self.problem is not None or self.config is None:
            return error_response(503, str(self.problem))
        return await verify.answer(request, self.proof, self._keys, self.config.max_n)

    @property
    def _keys(self) -> Mapping[str, str]:
        return self.signer.public if self.signer else {}

    def _check(self, params: SamplingParams, request: Any) -> bool:
        """Whether the request is deterministic. Raises Refused."""
        refuse_reserved_key(request.extra_key, NAMESPACE)
        default = self.config.default if self.config else False
        wanted = asks_for_determinism(params.custom_params, default)
        if wanted:
            try:
                self._require_service(params, request)
            except Refused as error:
                self.metrics.refused(error.status_code)
                raise
        else:
            refuse_fresh_seed(params.custom_params)
        refuse_nonce(params.custom_params, wanted)
        refuse_claim(params.custom_params, params.n, wanted)
        _refuse_unsendable(params.custom_params)  # last: the others name the field
        return wanted

    def _require_service(self, params: SamplingParams, request: Any) -> None:
        """Raise Refused unless these options can be served deterministically, and now."""
        refuse_unsupported(params, request)
        refuse_unclear_seed(params.custom_params, params.sampling_seed)
        _refuse_malformed(params)
        if self.problem is not None:
            raise Refused(f"deterministic service is not available: {self.problem}", 503)

    def _require_own(self, manager: Any) -> None:
        """Raise Refused for a request to an Engine of SGLang's own beside ours."""
        if manager is not self.bounds.manager:
            raise Refused(f"{FIELD}: this Engine is SGLang's; ask that of llm42_sglang", 503)


def _proofs_of(infos: Sequence[dict]) -> list[dict | None]:
    """What every scheduler has reported, None for nothing; a controller reports for several."""
    return [proof for info in infos for proof in info.get(REPLICAS_KEY, [info.get(INFO_KEY)])]


def _refuse_empty_constraints(raw: Any) -> None:
    """Refuse an empty constraint. SGLang's SamplingParams would take it for none."""
    for params in raw if isinstance(raw, list) else [raw or {}]:
        for name in CONSTRAINTS:
            if params.get(name) == "":
                raise Refused(f"{name} is empty, and SGLang would generate without it; drop it")


# What they may be, by SGLang's declaration of the field.
(_CUSTOM_PARAMS,) = (
    field.type for field in msgspec.structs.fields(SamplingParams) if field.name == "custom_params"
)


def _refuse_unsendable(custom_params: Any) -> None:
    """Refuse values that would end the scheduler when they reach it."""
    try:
        msgspec.convert(custom_params, _CUSTOM_PARAMS)
    except msgspec.ValidationError as error:
        raise Refused(f"custom_params: {error}") from None


def _refuse_malformed(params: SamplingParams) -> None:
    """Refuse values that SGLang lets pass although no row can be sampled with them."""
    if isinstance(params.n, int) and params.n < 1:
        raise Refused(f"n must be at least 1, got {params.n}")
    try:
        plan_of(params)
    except (ValueError, TypeError) as error:  # it names the option
        raise Refused(str(error)) from None
    try:
        adjustments_of(params, frozenset())
    except (ValueError, TypeError) as error:
        raise Refused(f"logit_bias: {error}") from None


def _raw_sampling_params(obj: GenerateReqInput) -> list[SamplingParams]:
    """The request's sampling parameters before SGLang normalizes them. None if malformed."""
    raw = obj.sampling_params or {}
    try:
        return [SamplingParams(**params) for params in (raw if isinstance(raw, list) else [raw])]
    except (TypeError, ValueError):
        return []  # SGLang's own validation names what is wrong
