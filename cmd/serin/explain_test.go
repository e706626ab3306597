package main

import (
	"strings"
	"testing"

	"serin.dev/serin/analysis"
	"serin.dev/serin/analysis/verdict"
)

// TestExplainSaysDirection: a guardrail of which fewer is harm says so.
func TestExplainSaysDirection(t *testing.T) {
	ev := analysis.Evidence{}
	ev.Verdict.Findings = []verdict.Finding{{Guardrail: "requests_ok", Direction: "decrease"}, {Guardrail: "error_free"}}
	var out strings.Builder
	printEvidence(&out, &ev, evidenceChart(&ev), 100, false)
	if s := out.String(); !strings.Contains(s, "requests_ok (decrease)  ") || !strings.Contains(s, "error_free  ") {
		t.Errorf("the table of guardrails:\n%s", s)
	}
}
