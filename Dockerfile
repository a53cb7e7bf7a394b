# By its whole version. A digest would be better still, and is added where a registry can be asked for it:
# docker buildx imagetools inspect python:3.13.14-slim
FROM python:3.13.14-slim
RUN useradd --uid 10001 --create-home heirloom && install -d -m 700 -o heirloom /state /log
WORKDIR /app
COPY requirements.lock pyproject.toml README.md LICENSE ./
# what builds is locked and comes first: an isolated build would fetch tools that nobody pinned
RUN sed -nE '/^(pip|setuptools|wheel|packaging)==/,/[^\]$/p' requirements.lock > tools.lock \
    && pip install --no-cache-dir --require-hashes --only-binary :all: -r tools.lock \
    && pip install --no-cache-dir --require-hashes --only-binary :all: --no-binary nkeys --no-build-isolation \
        -r requirements.lock
COPY events events
COPY service service
COPY projections projections
COPY notary notary
COPY heirloom heirloom
RUN pip install --no-cache-dir --no-deps --no-build-isolation .
USER heirloom
ENTRYPOINT ["heirloom"]
