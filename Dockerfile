# The gateway, installed by the steps of scripts/run. `docker run livepeer-live-gateway -devnet` tries it out.
# The digest is that of the index of all platforms: docker buildx imagetools inspect python:3.12-slim-bookworm

FROM python:3.12-slim-bookworm@sha256:782412e85d0f0984994c290652577d4018aff08145c85b262bb63dc0c7522254 AS build
WORKDIR /srv/gateway
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY scripts scripts
COPY signer_client signer_client
COPY gateway gateway
COPY config config
RUN scripts/prepare

FROM python:3.12-slim-bookworm@sha256:782412e85d0f0984994c290652577d4018aff08145c85b262bb63dc0c7522254
# for outputs, recordings and HLS; without it the gateway has none of these
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends ffmpeg && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 gateway \
    && useradd --uid 10001 --gid gateway --home-dir /data --create-home gateway
COPY --from=build /srv/gateway /srv/gateway
USER 10001:10001
WORKDIR /data
VOLUME /data
# other machines reach it: with a signer it starts only with -publishTokens, -liveAIAuthWebhookUrl or -allowNoAuth
ENV LP_HTTPADDR=0.0.0.0:9935 LP_DATADIR=/data
EXPOSE 9935/tcp
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
    CMD ["/srv/gateway/.venv/bin/python", "/srv/gateway/scripts/healthy.py"]
ENTRYPOINT ["/srv/gateway/.venv/bin/livepeer-gateway"]
