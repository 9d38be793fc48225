"""The rules by which OpenAI accepts the schema of a function. A violation makes it reject the whole request."""

import re

import jsonschema

FUNCTION_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
LONGEST_DESCRIPTION = 1024
# Rejected at the top level, also of functions that are not strict.
NOT_AT_TOP_LEVEL = ("oneOf", "anyOf", "allOf", "enum", "not")
# Strict functions only.
DEEPEST_STRICT_NESTING = 10
MOST_STRICT_PROPERTIES = 5000
NOT_IN_STRICT_SCHEMAS = ("allOf", "not", "dependentRequired", "dependentSchemas", "if", "then", "else", "patternProperties")


def subschemas(schema: dict, path: str = "$", depth: int = 0):
    """The schema and everything inside it, each with its path and the depth of its nesting in objects."""
    yield path, schema, depth
    for name, inner in schema.get("properties", {}).items():
        yield from subschemas(inner, f"{path}.{name}", depth + 1)
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), dict):
            yield from subschemas(schema[keyword], f"{path}.{keyword}", depth)
    for keyword in ("anyOf", "oneOf", "allOf"):
        for number, inner in enumerate(schema.get(keyword, [])):
            yield from subschemas(inner, f"{path}.{keyword}[{number}]", depth)
    for name, inner in schema.get("$defs", {}).items():
        yield from subschemas(inner, f"{path}.$defs.{name}", depth)


def function_problems(tool: dict) -> list[str]:
    """Violations of the rules for every function; `tool` has a name, a description and parameters."""
    name, schema = tool["name"], tool["parameters"]
    problems = []
    if not FUNCTION_NAME.fullmatch(name):
        problems.append(f"{name}: not a valid function name")
    if not tool["description"] or len(tool["description"]) > LONGEST_DESCRIPTION:
        problems.append(f"{name}: the description needs 1 to {LONGEST_DESCRIPTION} characters")
    if schema.get("type") != "object" or "properties" not in schema:
        problems.append(f"{name}: the parameters must be an object with `properties`")
    problems += [f"{name}: `{keyword}` at the top level" for keyword in NOT_AT_TOP_LEVEL if keyword in schema]
    jsonschema.Draft202012Validator.check_schema(schema)
    for path, inner, _ in subschemas(schema):
        if inner.get("type") == "array" and not isinstance(inner.get("items"), dict):
            problems.append(f"{name} {path}: an array without `items`")
        if not {"type", "anyOf", "$ref", "enum", "const"} & inner.keys():
            problems.append(f"{name} {path}: no type")
        missing = set(inner.get("required", [])) - inner.get("properties", {}).keys()
        if missing and inner.get("type") == "object":
            problems.append(f"{name} {path}: required but not declared: {sorted(missing)}")
    return problems


def open_object_problems(tool: dict) -> list[str]:
    """Objects without `properties`, which some models and gateways reject at any depth."""
    return [
        f"{tool['name']} {path}: an object without `properties`"
        for path, inner, _ in subschemas(tool["parameters"])
        if inner.get("type") == "object" and "properties" not in inner
    ]


def strict_problems(tool: dict) -> list[str]:
    """Violations of the additional rules for strict functions."""
    problems, count = [], 0
    for path, inner, depth in subschemas(tool["parameters"]):
        where = f"{tool['name']} {path}"
        problems += [f"{where}: `{keyword}`" for keyword in NOT_IN_STRICT_SCHEMAS if keyword in inner]
        if depth > DEEPEST_STRICT_NESTING:
            problems.append(f"{where}: nested more than {DEEPEST_STRICT_NESTING} levels deep")
        if inner.get("type") == "object":
            count += len(inner.get("properties", {}))
            if inner.get("additionalProperties") is not False:
                problems.append(f"{where}: `additionalProperties` is not false")
            if set(inner.get("required", [])) != inner.get("properties", {}).keys():
                problems.append(f"{where}: not every property is required")
    if count > MOST_STRICT_PROPERTIES:
        problems.append(f"{tool['name']}: more than {MOST_STRICT_PROPERTIES} properties")
    return problems
