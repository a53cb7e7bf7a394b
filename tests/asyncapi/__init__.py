"""`asyncapi-3.0.0.json` is the JSON Schema of AsyncAPI 3.0.0, from `@asyncapi/specs` 6.11.1 (Apache-2.0), unaltered."""
