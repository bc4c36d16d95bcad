//go:build suite

// Package networkpolicyapi names the suite, which is a test and therefore no tool.
package networkpolicyapi

import _ "sigs.k8s.io/network-policy-api/conformance/tests"
