# The CUDA libraries come with torch's wheels, so the base is plain Python; a second copy from a
# CUDA base image would cost gigabytes. Layers from slow to quick: libraries, then the code.

ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
ARG UV_VERSION=0.13.8
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1
RUN python3 -m venv /opt/venv \
 && /opt/venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check uv==${UV_VERSION}
COPY requirements.lock /build/
# CUDA 13 needs driver 580 or later. For an older driver, build with
# --build-arg TORCH_BACKEND=cu126 (or cu128): another CUDA build of torch, fetched without hash
# checks. That path is not tested by this project.
ARG TORCH_BACKEND=
RUN if [ -z "${TORCH_BACKEND}" ]; then \
      /opt/venv/bin/uv pip install --python /opt/venv/bin/python --require-hashes \
        -r /build/requirements.lock; \
    else \
      sed -E '/^ +--hash/d; s/ \\$//; /^(nvidia|cuda)-/d' /build/requirements.lock > /build/loose.txt \
      && /opt/venv/bin/uv pip install --python /opt/venv/bin/python \
        --torch-backend "${TORCH_BACKEND}" -r /build/loose.txt; \
    fi

FROM build AS code
COPY pyproject.toml README.md LICENSE /build/
COPY distill /build/distill
COPY bench /build/bench
RUN /opt/venv/bin/uv pip install --python /opt/venv/bin/python \
      --no-deps --no-build-isolation --target /opt/code /build

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="six-gig-distill" \
      org.opencontainers.image.description="Distil ViTs inside a 6 GB GPU: predict, probe, train" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/venv /opt/venv
COPY --from=code /opt/code /opt/code
COPY docker/entrypoint /usr/local/bin/entrypoint
# Any user may run this: what has to be written lives in one volume and in the mounts.
RUN mkdir -p /cache /work/data /work/results /work/profiles \
 && chmod 1777 /cache /work/data /work/results /work/profiles
ENV PATH=/opt/venv/bin:/opt/code/bin:$PATH \
    PYTHONPATH=/opt/code \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/cache \
    XDG_CACHE_HOME=/cache \
    HF_HOME=/cache/huggingface \
    TORCH_HOME=/cache/torch \
    MPLCONFIGDIR=/tmp/matplotlib \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /work
VOLUME /cache
USER 1000:1000
ENTRYPOINT ["entrypoint"]
CMD ["bench", "--help"]
