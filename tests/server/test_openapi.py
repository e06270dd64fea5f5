"""The OpenAPI document against its standard, against the application, and against what the server really does."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from server.openapi import PATH
from server.problems import CATALOGUE
from tests.server.nodes import small_config
from tests.server.thread_node import thread_node
from tests.server.web_fakes import Site

MEANINGLESS = {
    "stream": "none",
    "bid": "none",
    "session": "none",
    "invite": "none",
    "disclosure": "none",
    "name": "nobody",
    "tip": "none",
    "goal": "none",
    "code": "none",
    "provider": "nobody",
    "sale": "none",
    "ticket": "none",
    "reservation": "none",
    "streamer": "nobody",
    "subscriber": "nobody",
    "webhook": "none",
    "device": "none",
    "conversation": "none",
    "call": "none",
    "account": "nobody",
    "seq": "1",
    "reaction": "👍",
    "case": "none",
    "upload": "none",
    "file": "none",
}
Values = st.SearchStrategy[Any]
# What any request may meet; the document says it once, as the default.
COMMON = ("request_refused", "not_found", "method_not_allowed")
TAKES_LONG = ("/accounts", "/sessions")  # each request hashes a password on purpose


class Served:
    """A node's document, and a way to ask the node as its administrator. (Hypothesis would print a tuple whole.)"""

    def __init__(self, http: httpx2.Client) -> None:
        self.http = http
        self.document: dict[str, Any] = http.get(PATH).json()
        self._validators: dict[str, Validator] = {}  # by schema; to make one takes longer than a request

    def validator(self, schema: dict[str, Any]) -> Validator:
        """Return what checks values by one of the document's schemas."""
        key = json.dumps(schema)
        if key not in self._validators:
            self._validators[key] = Draft202012Validator(whole(schema, self.document))
        return self._validators[key]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    config = small_config(tmp_path_factory.mktemp("openapi"))
    rates = msgspec.structs.replace(config.rates, account_burst=100_000, guess_burst=100_000)
    with thread_node(msgspec.structs.replace(config, rates=rates)) as node:
        token = (node.folder / "admin.token").read_text().strip()
        with httpx2.Client(base_url=node.running.url, headers={"Authorization": f"Bearer {token}"}) as http:
            yield Served(http)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def whole(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that stands alone: with the components that it refers to."""
    return json.loads(
        json.dumps({**schema, "$defs": document["components"]["schemas"]}).replace("#/components/schemas/", "#/$defs/")
    )


def check_answer(answer: httpx2.Response, operation: dict[str, Any], served: Served) -> None:
    """Check that an answer is one of those that the document promises, to the last member."""
    expected = operation["responses"].get(str(answer.status_code), operation["responses"]["default"])
    content = expected.get("content", {})
    if not content:
        assert not answer.content
        return
    kind = answer.headers["Content-Type"].partition(";")[0]
    assert kind in content or "*/*" in content, (answer.status_code, kind)
    if kind.endswith("json"):
        served.validator(content[kind]["schema"]).validate(answer.json())
    if kind == "application/problem+json":
        code = answer.json()["code"]
        assert CATALOGUE[code][0] == answer.status_code
        assert code != "internal_error", answer.text
        assert code in COMMON or code in expected["description"], (answer.request.url, code)


def values_of(schema: dict[str, Any], document: dict[str, Any], inside: frozenset[str] = frozenset()) -> Values:
    """Return values that a schema of the document allows; nothing is within another of its own kind (`inside`)."""
    match schema:
        case {"$ref": str(name)}:
            name = name.rpartition("/")[2]
            return values_of(document["components"]["schemas"][name], document, inside | {name})
        case {"anyOf": list(choices)}:
            shallow = [choice for choice in choices if choice.get("$ref", "").rpartition("/")[2] not in inside]
            return st.one_of(*(values_of(choice, document, inside) for choice in shallow))
        case {"enum": list(choices)}:
            return st.sampled_from(choices)
        case {"type": "string", "pattern": str(pattern)}:
            return st.from_regex(pattern.removesuffix("$"), fullmatch=True)
        case {"type": "string"}:
            alphabet = st.characters(exclude_categories=["Cs"])
            return st.text(
                alphabet, min_size=schema.get("minLength", 0), max_size=min(schema.get("maxLength", 50), 500)
            )
        case {"type": "integer"}:
            return st.integers(schema.get("minimum", -(2**53)), schema.get("maximum", 2**53))
        case {"type": "boolean"}:
            return st.booleans()
        case {"type": "null"}:
            return st.none()
        case {"type": "array", "items": dict(items)}:
            sizes = {"min_size": schema.get("minItems", 0), "max_size": min(schema.get("maxItems", 3), 3)}
            return st.lists(values_of(items, document, inside), **sizes)
        case {"type": "object", "properties": dict(properties)}:
            inner = {name: values_of(property, document, inside) for name, property in properties.items()}
            required = {name: inner.pop(name) for name in schema.get("required", [])}
            return st.fixed_dictionaries(required, optional=inner)
    raise AssertionError(f"a schema of a kind that no test knows: {schema}")


def spoilt(schema: dict[str, Any], served: Served) -> Values:
    """Return values that the schema of a body does not allow, most of them nearly right."""
    shape = served.document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    name = st.sampled_from(sorted(shape["properties"]))
    wrong = st.one_of(st.just([]), st.just({}), st.floats(0.1, 0.9))
    good = values_of(schema, served.document)
    values = st.one_of(
        st.builds(lambda body, name, wrong: {**body, name: wrong}, good, name, wrong),
        st.builds(lambda body: {**body, "another": 1}, good),
        st.sampled_from([None, 1, "text", [], [{}]]),
    )
    return values.filter(lambda value: not served.validator(schema).is_valid(value))


def test_the_document_is_valid(served: Served) -> None:
    document = served.document
    OpenAPIV31SpecValidator(document).validate()
    assert document["openapi"].startswith("3.1")
    identifiers = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(identifiers) == len(set(identifiers))


def test_every_route_of_the_interface_is_in_it_and_no_other() -> None:
    app = Site().app
    rules = {
        (method, re.sub(r"<[^>]*:(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith(("/api/", "/whip/", "/whep/"))
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    document = json.loads(json.dumps(Site().document()))
    assert {(method, path) for method, path, _ in operations(document)} == rules


async def test_every_problem_code_it_names_exists_and_is_explained() -> None:
    site = Site()
    document = site.document()
    named = {
        (code, status)
        for _, _, operation in operations(document)
        for status, response in operation["responses"].items()
        if status.startswith(("4", "5"))
        for code in response["description"].split(", ")
    }
    assert named
    for code, status in named:
        assert CATALOGUE[code][0] == int(status)
        answer = await site.ask("GET", f"/problems/{code}", token=None)
        assert (await answer.get_data()).decode().startswith(f"{code} ({status}): ")


def test_answers_to_nothing_special_are_as_documented(served: Served) -> None:
    http, document = served.http, served.document
    for method, path, operation in operations(document):
        for headers in ({}, {"Authorization": "Bearer x"}, {"Content-Type": "text/plain"}, {"Content-Length": "0"}):
            address = path.format(**MEANINGLESS)
            check_answer(http.request(method, address, headers=headers), operation, served)


# Not shrunk: an example asks every route, and a failing one is short enough to read.
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
@given(data=st.data())
def test_any_body_that_the_document_allows_is_understood_and_any_other_is_refused(
    served: Served, data: st.DataObject
) -> None:
    http, document = served.http, served.document
    for method, path, operation in operations(document):
        schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        if schema is None or "$ref" not in schema or path.endswith(TAKES_LONG):
            continue  # what is not an object here is judged as octets, by its signature
        address = path.format(**MEANINGLESS)
        body = data.draw(values_of(schema, document))
        served.validator(schema).validate(body)
        answer = http.request(method, address, json=body)
        check_answer(answer, operation, served)
        assert answer.status_code == 422 or answer.json().get("code") not in ("malformed_json", "invalid_request")
        other = data.draw(spoilt(schema, served))
        answer = http.request(method, address, content=json.dumps(other), headers={"Content-Type": "application/json"})
        check_answer(answer, operation, served)
        assert answer.json()["code"] == "invalid_request", (path, other, answer.text)


def test_a_stream_lives_its_life_as_documented(served: Served) -> None:
    http, document = served.http, served.document
    documented = {(method, path): operation for method, path, operation in operations(document)}

    def ask(method: str, path: str, body: object = None, **names: str) -> Any:
        answer = http.request(method, f"/api/v1{path}".format(**names), json=body)
        assert answer.is_success, answer.text
        operation = documented[method, f"/api/v1{path}"]
        assert str(answer.status_code) in operation["responses"]
        check_answer(answer, operation, served)
        return answer.json()

    for name in ("ann", "bob"):
        ask("POST", "/admin/accounts", {"name": name})
    assert ask("POST", "/admin/tokens", {"name": "ann", "expires_s": 60})["token"]
    stream = ask("POST", "/admin/streams", {"name": "ann", "title": "A life"})["card"]["id"]
    assert ask("GET", "/streams")["streams"]
    ask("GET", "/streams/{stream}", stream=stream)
    ask("PUT", "/streams/{stream}/tickets/{name}", stream=stream, name="bob")
    prepared = ask("POST", "/streams/{stream}/mode/prepare", {"mode": "paid"}, stream=stream)
    confirmation = {"confirm_token": prepared["confirm_token"], "allow_empty": True}
    ask("POST", "/streams/{stream}/mode/confirm", confirmation, stream=stream)
    ask("PUT", "/streams/{stream}/time_limit", {"seconds": 3600}, stream=stream)
    ask("PUT", "/streams/{stream}/best_picture", {"best_picture": "entitled"}, stream=stream)
    assert ask("GET", "/streams/{stream}", stream=stream)["card"]["best_picture"] == "entitled"
    assert ask("GET", "/streams/{stream}/room", stream=stream)["tickets"]
    ask("PATCH", "/streams/{stream}", {"title": "\u202eOther\u200b words "}, stream=stream)
    assert ask("GET", "/streams/{stream}", stream=stream)["card"]["title"] == "Other words"
    ask("PUT", "/streams/{stream}/ejected/{name}", stream=stream, name="bob")
    ask("GET", "/me")
    ask("POST", "/streams/{stream}/end", stream=stream)


def test_a_conversation_lives_its_life_as_documented(served: Served) -> None:
    http, document = served.http, served.document
    documented = {(method, path): operation for method, path, operation in operations(document)}
    http.post("/api/v1/admin/accounts", json={"name": "talker"})

    def ask(method: str, path: str, body: object = None, **names: str) -> Any:
        headers = {"Idempotency-Key": path}
        answer = http.request(method, f"/api/v1{path}".format(**names), json=body, headers=headers)
        assert answer.is_success, answer.text
        check_answer(answer, documented[method, f"/api/v1{path}"], served)
        return answer.json() if answer.content else None

    group = ask("POST", "/conversations", {"title": "A life"})["id"]
    talk = ask("PUT", "/conversations/direct/{name}", name="talker")["id"]
    for text in ("hello", "world"):
        ask("POST", "/conversations/{conversation}/messages", {"text": text, "client_txn": text}, conversation=talk)
    forward = {"conversation": talk, "seq": 1, "client_txn": "f"}
    assert ask("POST", "/conversations/{conversation}/forwards", forward, conversation=group)["seq"] == 1
    one = {"conversation": talk, "seq": "1"}
    ask("PUT", "/conversations/{conversation}/messages/{seq}", {"text": "hi"}, **one)
    ask("PUT", "/conversations/{conversation}/messages/{seq}/reactions/{reaction}", **one, reaction="👍")
    ask("PUT", "/conversations/{conversation}/messages/{seq}/pin", **one)
    assert len(ask("GET", "/conversations/{conversation}/messages", conversation=talk)["messages"]) == 2
    assert ask("GET", "/conversations")["conversations"]
    found = http.get("/api/v1/messages", params={"text": "world"})
    check_answer(found, documented["GET", "/api/v1/messages"], served)
    assert len(found.json()["messages"]) == 1
    ask("PUT", "/conversations/{conversation}/markers", {"read": 1}, conversation=talk)
    ask("PUT", "/conversations/{conversation}/mine", {"draft": "well"}, conversation=talk)
    assert ask("GET", "/conversations/{conversation}", conversation=talk)["mine"]["draft"] == "well"
    ask("PUT", "/conversations/{conversation}/members/{name}", conversation=group, name="talker")
    assert len(ask("GET", "/conversations/{conversation}/members", conversation=group)["members"]) == 2
    ask("PUT", "/conversations/{conversation}/shape", {"title": "Another"}, conversation=group)
    ask("PUT", "/me/messenger", ask("GET", "/me/messenger"))
    ask("DELETE", "/conversations/{conversation}/messages/{seq}", **one)
    new = {"device": "telephone", "client_txn": "call"}
    call = ask("POST", "/conversations/{conversation}/calls", new, conversation=talk)["id"]
    assert [each["id"] for each in ask("GET", "/me/calls")["calls"]] == [call]
    ask("POST", "/calls/{call}/video", call=call)
    ask("PUT", "/calls/{call}/video", {"agreed": False}, call=call)
    assert ask("POST", "/calls/{call}/answer", {"device": "telephone"}, call=call)["state"] == "ringing"
    assert ask("POST", "/calls/{call}/hang_up", call=call)["reason"] == "cancelled"
    for card in http.get("/api/v1/streams").json()["streams"]:
        http.post(f"/api/v1/streams/{card['id']}/end")
    live = ask("POST", "/conversations/{conversation}/go_live", {}, conversation=group)["stream"]
    ask("POST", "/streams/{stream}/end", stream=live)
    ask("POST", "/conversations/{conversation}/leave", conversation=group)


def test_a_file_lives_its_life_as_documented(served: Served) -> None:
    http, document = served.http, served.document
    content = b"Words of a file."

    def ask(method: str, path: str, content: bytes | None = None, **headers: str) -> httpx2.Response:
        sent = {"Tus-Resumable": "1.0.0", **{name.replace("_", "-"): value for name, value in headers.items()}}
        if content is not None:
            sent["Content-Type"] = "application/offset+octet-stream"
        answer = http.request(method, f"/api/v1{path}", content=content, headers=sent)
        assert answer.is_success, answer.text
        template = re.sub(r"/(uploads|files)/[^/]+", lambda found: f"/{found[1]}/{{{found[1][:-1]}}}", path)
        check_answer(answer, document["paths"][f"/api/v1{template}"][method.lower()], served)
        return answer

    begun = ask("POST", "/uploads", upload_length=str(len(content)))
    upload = begun.headers["Location"].removeprefix("/api/v1")
    ask("PATCH", upload, content, upload_offset="0")
    deadline = time.monotonic() + 60
    while (view := ask("GET", upload).json())["state"] == "received" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (view["state"], view["offset"]) == ("ready", len(content))
    assert ask("GET", f"/files/{view['id']}").content == content
    assert ask("GET", "/me/files").json()["used"] == len(content)
    assert ask("POST", "/me/file_ticket").json()["ticket"]
    ask("DELETE", upload)


def test_signing_up_and_logging_in_are_as_documented(served: Served) -> None:
    http, document = served.http, served.document
    documented = {(method, path): operation for method, path, operation in operations(document)}
    credentials = {"name": "carol", "password": "right horse"}
    for path, body, status in (
        ("/api/v1/accounts", credentials, 201),
        ("/api/v1/accounts", credentials, 409),
        ("/api/v1/accounts", {"name": "x", "password": "short"}, 422),
        ("/api/v1/sessions", credentials, 201),
        ("/api/v1/sessions", {**credentials, "password": "wrong horse"}, 401),
    ):
        answer = http.post(path, json=body)
        assert answer.status_code == status, answer.text
        check_answer(answer, documented["POST", path], served)
        if status >= 400:
            assert answer.json()["code"] in documented["POST", path]["responses"][str(status)]["description"]


def test_the_shipped_page_is_not_part_of_the_interface(served: Served) -> None:
    assert not [path for path in served.document["paths"] if Path(path).suffix in (".html", ".js", ".css")]
