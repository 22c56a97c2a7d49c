# foveate on CPUs.
#
#   docker build -t foveate .
#   docker run --rm -v "$PWD:/data" foveate predict /data/clip.mp4
#
# Downloaded weights are kept in /cache; mount a volume there to keep them between containers.
FROM python:3.11-slim

ENV PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1 \
    OMP_NUM_THREADS=1 \
    FOVEATE_CACHE=/cache

RUN pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu

COPY pyproject.toml README.md LICENSE NOTICE /opt/foveate/
COPY src /opt/foveate/src
RUN pip install '/opt/foveate[train,zoo,fast]'

RUN useradd --create-home foveate && mkdir /cache && chown foveate /cache
USER foveate
WORKDIR /data
ENTRYPOINT ["foveate"]
CMD ["--help"]
