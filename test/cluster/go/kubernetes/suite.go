//go:build suite

// Package kubernetes names the suite, which is a test and therefore no tool.
package kubernetes

import _ "k8s.io/kubernetes/test/e2e"
