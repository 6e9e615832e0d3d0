"""What a decision server answers, in both dialects: it refuses every request that the contracts do not allow.

The contract of the dialect of OpenAI is that of the types in its client (`openai.types.decision_create_params`), the
one of `systemone` that of TypeSafe, vLLM and Ollama. `belief(text)` says how relevant a passage is, from 0 to 1.
"""

import re

PATHS = {"/v1/decisions": "openai", "/v1/systemone": "systemone"}
_PASSAGE = re.compile(r"\[(passage \d+)\]\n<passage>\n(.*?)\n</passage>", re.DOTALL)


class RefusalError(Exception):
    """Why a request is refused, as a server says it."""


def must(right, why):
    if not right:
        raise RefusalError(why)


def respond(path, body, belief, *, questions=None, options=255, tokens=None):
    """Status and document of the answer to one request.

    Args:
        questions: the most of them; 400 and 64 by dialect.
        options: the most of a choice.
        tokens: the longest state, at four bytes a token.
    """
    dialect = PATHS.get(path)
    if dialect is None:
        return 404, {"error": {"message": f"no route {path}"}}
    most = questions or (400 if dialect == "openai" else 64)
    try:
        state, asked = _checked(body, dialect, most, options)
        length = len(state.encode()) // 4
        must(tokens is None or length <= tokens, f"This model's maximum context length is {tokens} tokens")
    except RefusalError as err:
        return 400, {"error": {"message": str(err), "type": "invalid_request_error", "code": None}}
    beliefs = {name: belief(text) for name, text in _PASSAGE.findall(state)}
    answers = {name: _answer(one, beliefs, dialect) for name, one in asked.items()}
    details = {"cached_tokens": length // 2, "cache_write_tokens": 0}
    usage = {"input_tokens": length + 10 * len(asked), "output_tokens": 0, "total_tokens": length + 10 * len(asked),
             "input_tokens_details": details, "output_tokens_details": {"reasoning_tokens": 0}}  # fmt: skip
    listed = [{"name": name, **answer} for name, answer in answers.items()]
    return 200, {"model": body["model"], "answers": listed if dialect == "openai" else answers, "usage": usage}


def _checked(body, dialect, most, options):
    """The state, and the questions by name with their options."""
    where = "input" if dialect == "openai" else "state"
    must(set(body) == {"model", where, "questions"}, f"unexpected or missing fields: {sorted(body)}")
    must(isinstance(body["model"], str) and body["model"], "model must be a string")
    must(isinstance(body[where], str) and body[where], f"{where} must be a string")
    given = body["questions"]
    if dialect == "openai":
        must(isinstance(given, list), "questions must be an array")
        must(all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in given), "a question has a name")
        must(len({one["name"] for one in given}) == len(given), "names must be unique")
        given = {one["name"]: {key: value for key, value in one.items() if key != "name"} for one in given}
    must(isinstance(given, dict) and all(isinstance(one, dict) for one in given.values()), "questions must be objects")
    must(1 <= len(given) <= most, f"questions: between 1 and {most} questions are allowed, got {len(given)}")
    return body[where], {name: _question(one, dialect, options) for name, one in given.items()}


def _question(one, dialect, options):
    kinds = ("predicate" if dialect == "openai" else "noul", "choice", "score")
    must(one.get("type") in kinds, f"type must be one of {kinds}")
    must(isinstance(one.get("instructions"), str) and one["instructions"], "instructions must be a string")
    fields = {"choice": "choices", "score": "levels"} if dialect == "openai" else dict.fromkeys(kinds[1:], "criteria")
    field = fields.get(one["type"])
    must(set(one) == {"type", "instructions"} | ({field} if field else set()), f"unexpected fields: {sorted(one)}")
    named = _options(one, field, dialect) if field else []
    if field:
        least, most = 2, options if one["type"] == "choice" else 10
        must(least <= len(named) <= most, f"{field}: between {least} and {most} options are allowed, got {len(named)}")
        must(all(isinstance(name, str) and name for name in named), f"{field} must be strings")
        must(len(set(named)) == len(named), f"{field} must be unique")
    return {"type": one["type"], "instructions": one["instructions"], "options": named}


def _options(one, field, dialect):
    given = one[field]
    if dialect == "systemone":
        must(isinstance(given, dict if one["type"] == "choice" else list), f"{field} has the wrong type")
        return list(given)
    key = "value" if one["type"] == "choice" else "label"
    must(isinstance(given, list) and all(isinstance(entry, dict) and set(entry) <= {key, "description"}
                                         for entry in given), f"{field} must be objects with {key}")  # fmt: skip
    return [entry.get(key) for entry in given]


def _answer(one, beliefs, dialect):
    kind, options = one["type"], one["options"]
    if kind == "choice":
        weights = [10 ** (4 * beliefs[option]) for option in options]
        shares = [weight / sum(weights) for weight in weights]
        best = max(range(len(options)), key=shares.__getitem__)
        listed = dict(zip(options, shares, strict=True))
        rows = [{"value": option, "probability": share} for option, share in listed.items()]
        return {"type": kind, "choice": options[best], "confidence": shares[best],
                "probabilities": rows if dialect == "openai" else listed}  # fmt: skip
    name = re.search(r"\[(passage \d+)\]", one["instructions"])[1]
    if kind != "score":
        return {"type": kind, "probability" if dialect == "openai" else kind: beliefs[name]}
    place = beliefs[name] * (len(options) - 1)
    low = min(int(place), len(options) - 2)
    shares = [0.0] * len(options)
    shares[low], shares[low + 1] = 1 - (place - low), place - low
    rows = [{"label": label, "value": n, "probability": share}
            for n, (label, share) in enumerate(zip(options, shares, strict=True))]  # fmt: skip
    by_level = {str(n): share for n, share in enumerate(shares)}
    answer = {"type": kind, "score": place, "confidence": max(shares),
              "probabilities": rows if dialect == "openai" else by_level}  # fmt: skip
    return answer if dialect == "openai" else {**answer, "legend": {str(n): label for n, label in enumerate(options)}}
