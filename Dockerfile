# A server with the demo model, which is made at the first start and kept in /data:
#
#     docker build --tag ecellm-lite .
#     docker run --publish 8765:8765 --volume ecellm-lite:/data --volume ./keys:/run/secrets/keys:ro ecellm-lite
#
# llama.cpp is compiled for the processor of the machine that builds the image.
FROM python:3.13-slim-trixie AS build
# The image's tag decides the versions of Debian's packages.
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install --yes --no-install-recommends build-essential cmake \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
# See the Makefile for the two flags.
ENV CFLAGS=-U__AMX_INT8__ CXXFLAGS=-U__AMX_INT8__
RUN python -m venv /opt/ecellm-lite \
  && /opt/ecellm-lite/bin/pip install --no-cache-dir '.[demo,server]'

FROM python:3.13-slim-trixie
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install --yes --no-install-recommends libgomp1 \
  && rm -rf /var/lib/apt/lists/* \
  && useradd --system --uid 10001 shop \
  && install --directory --owner shop --mode 0700 /data
COPY --from=build /opt/ecellm-lite /opt/ecellm-lite
ENV PATH=/opt/ecellm-lite/bin:$PATH ECELLM_HOME=/data
USER 10001
VOLUME /data
EXPOSE 8765
HEALTHCHECK CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8765/health')"]
ENTRYPOINT ["ecellm-lite"]
CMD ["serve", "--host", "0.0.0.0", "--api-keys", "/run/secrets/keys"]
