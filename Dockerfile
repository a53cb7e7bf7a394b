FROM python:3.13-slim
RUN useradd --uid 10001 --create-home heirloom && install -d -m 700 -o heirloom /state /log
WORKDIR /app
COPY requirements.lock pyproject.toml README.md LICENSE ./
RUN pip install --no-cache-dir --require-hashes -r requirements.lock
COPY events events
COPY service service
COPY projections projections
COPY notary notary
COPY heirloom heirloom
RUN pip install --no-cache-dir --no-deps --no-build-isolation .
USER heirloom
ENTRYPOINT ["heirloom"]
