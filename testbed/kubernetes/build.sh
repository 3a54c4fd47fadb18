#!/bin/sh
# Builds ./kube-testbed, or the file that is named, which reports the pinned release as its version.
#   ./build.sh [FILE]
set -eu
file=$(realpath -m "${1:-$(dirname "$0")/kube-testbed}")
cd "$(dirname "$0")"
v=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
pkg=k8s.io/component-base/version
minor=${v#v1.}
CGO_ENABLED=0 go build -trimpath -buildvcs=false -o "$file" -ldflags "-s -w \
	-X $pkg.gitVersion=$v -X $pkg.gitMajor=1 -X $pkg.gitMinor=${minor%%.*} \
	-X $pkg.gitTreeState=clean" .
