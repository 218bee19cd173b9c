# Ray's head and workers, the job submitter and the night's launcher. From the root of the repository:
#   docker build -f k8s/images/ray.Dockerfile -t mmsrarec-ray:0.1.0-gpu .
#   docker build -f k8s/images/ray.Dockerfile -t mmsrarec-ray:0.1.0-cpu --build-arg ENGINE=cpu .
FROM docker.io/library/python:3.11.13-slim-bookworm

# Triton and vLLM compile kernels when they start; KubeRay asks by wget whether Ray before 2.53 is alive.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ procps wget \
    && rm -rf /var/lib/apt/lists/* \
    && pip install --no-cache-dir uv==0.13.8

WORKDIR /opt/mmsrarec
COPY pyproject.toml README.md LICENSE ./
COPY mmsrarec mmsrarec

# Not into a virtual environment: KubeRay starts Ray in a login shell, which looks for programs in /usr/local/bin.
ARG ENGINE=gpu
RUN uv pip install --system --no-cache --compile-bytecode ".[${ENGINE},kubernetes]"

ENV PYTHONUNBUFFERED=1 NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN useradd --uid 1000 --create-home mmsrarec
USER 1000:1000
