package main

import (
	"strings"
	"testing"
)

// TestVerdictTimeIsUp: a hold that stands when the time to wait is over is an answer,
// not a failure.
func TestVerdictTimeIsUp(t *testing.T) {
	s, _ := startServer(t, testConfig(t.TempDir()))
	createRollout(t, s)
	status, stdout, stderr := runCommand(t, "verdict", "--server", s.url(), "--token", ownToken, "--wait", "--timeout", "1500ms", "r1")
	if status != 10 || !strings.HasPrefix(stdout, "hold\n") {
		t.Errorf("status %d: %s%s", status, stdout, stderr)
	}
}
