"""The client that most callers use, against the endpoint: answers, streams, and the exception that each refusal becomes."""
from __future__ import annotations

import ssl

import openai
import pytest


@pytest.fixture
def client(fleet):
    """client(name of the tenant, or a key): as a caller makes it who trusts the site's CA."""
    made = []

    def make(tenant="demo", key=""):
        context = ssl.create_default_context(cafile=str(fleet.state / "ca/ca.pem"))
        key = key or (fleet.state / f"key-{tenant}").read_text().strip()
        made.append(openai.OpenAI(base_url=f"https://127.0.0.1:{fleet.port}/v1", api_key=key, max_retries=0,
                                  http_client=openai.DefaultHttpxClient(verify=context, timeout=60)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def chat(one, model="tiny", **more):
    messages = [{"role": "user", "content": "hello"}]
    return one.chat.completions.create(model=model, messages=messages, max_tokens=8, temperature=0, **more)


def test_chat_and_completion_and_stream(client):
    one = client()
    answer = chat(one)
    assert answer.choices[0].message.content is not None and answer.usage.completion_tokens == 8
    parts = list(chat(one, stream=True, stream_options={"include_usage": True}))
    assert parts[-1].usage.completion_tokens == 8
    assert "".join(part.choices[0].delta.content or "" for part in parts if part.choices) == answer.choices[0].message.content
    assert one.completions.create(model="tiny", prompt="hello", max_tokens=3).usage.completion_tokens == 3
    assert [model.id for model in one.models.list()] == ["tiny"]


def test_a_wrong_key_is_an_authentication_error(client):
    with pytest.raises(openai.AuthenticationError) as caught:
        chat(client(key="0" * 48))
    assert caught.value.code == "invalid_api_key"


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as caught:
        chat(client(), model="gpt-9")
    assert "gpt-9" in str(caught.value)


def test_what_the_engine_refuses_is_a_bad_request(client):
    with pytest.raises(openai.BadRequestError):
        client().chat.completions.create(model="tiny", messages=[{"role": "user", "content": "hello " * 5000}], max_tokens=8)


def test_a_tenant_over_its_rate_gets_a_rate_limit_error_that_says_when_to_come_again(client):
    one = client("trial")
    with pytest.raises(openai.RateLimitError) as caught:
        for _turn in range(4):  # one, one more at once, and six a minute
            chat(one)
    assert caught.value.code == "rate_limit_exceeded" and caught.value.response.headers["Retry-After"] == "10"
    assert chat(client()).choices, "another tenant is not held back"
