"""Random requests that follow the description of the routes, or break it: none of them is a server error."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from tests.support.review_server import ORIGIN, Browser, review_app

pytestmark = pytest.mark.slow

N_REQUESTS = int(os.environ.get("HARDMIL_RANDOM_REQUESTS", "1500"))
"""In all; docs/reliability.md gives the result of 10,000."""


def send(browser: Browser, case: Any) -> int:
    """Send a request with the cookies and headers of a page; its status."""
    parts = case.as_transport_kwargs(base_url=ORIGIN)
    content = {"json": parts["json"]} if "json" in parts else {"content": _content(parts.get("data"))}
    answer = browser.client.request(
        parts["method"],
        parts["url"],
        params=parts.get("params"),
        headers={**browser.headers, "content-type": "application/json"},
        **content,
    )
    return answer.status_code


def _content(data: object) -> bytes:
    return data if isinstance(data, bytes) else str(data or "").encode("utf-8", "replace")


def send_some(browser: Browser, operation: Any, *, mode: GenerationMode, n: int) -> Counter[int]:
    """How often each status was the answer."""
    seen: Counter[int] = Counter()

    @settings(
        max_examples=n,
        database=None,
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def request(case: Any) -> None:
        status = send(browser, case)
        seen[status] += 1
        assert status < 500, (operation.label, case.path_parameters, case.query, case.body)

    request()
    return seen


def test_no_random_request_is_a_server_error(review_folder: Path):
    seen: dict[str, Counter[int]] = {}
    with review_app(review_folder) as (app, workspace):
        browser = Browser(app)
        description = app.openapi()
        # Which verdicts there are depends on the study, and the description does not say.
        verdict = description["components"]["schemas"]["PatchVerdict"]["properties"]["verdict"]
        verdict["enum"] = list(workspace.words)
        schema = schemathesis.openapi.from_dict(description)
        operations = [found.ok() for found in schema.get_all_operations()]
        for operation in operations:
            # What takes no argument cannot be asked for wrongly.
            is_free = "{" not in operation.path and not operation.query and not operation.body
            modes = (GenerationMode.POSITIVE,) if is_free else tuple(GenerationMode)
            n = 3 if is_free else N_REQUESTS // (2 * len(operations))
            for mode in modes:
                seen.setdefault(operation.label, Counter()).update(
                    send_some(browser, operation, mode=mode, n=n)
                )
        assert len(seen) > 20
        assert min(seen["POST /api/verdicts"]) == min(seen["GET /slide/{number}"]) == 200
        assert workspace.store.verdicts()
    total = sum(seen.values(), Counter[int]())
    print(total.total(), "requests; answers by status:", dict(total))
