package main

import (
	"strings"
	"testing"

	"serin.dev/serin/analysis"
	"serin.dev/serin/analysis/verdict"
)

// TestExplainMarks: a guardrail of which fewer is harm says so, and what is to blame
// stands out.
func TestExplainMarks(t *testing.T) {
	ev := analysis.Evidence{}
	ev.Verdict.Findings = []verdict.Finding{{Guardrail: "requests_ok", Direction: "decrease"}, {Guardrail: "error_free", Blamed: true}}
	var out strings.Builder
	printEvidence(&out, &ev, evidenceChart(&ev), 100, false)
	if s := strings.Join(strings.Fields(out.String()), " "); !strings.Contains(s, " requests_ok (decrease) 0 of 0 ") || !strings.Contains(s, " ! error_free 0 of 0 ") {
		t.Errorf("the table of guardrails:\n%s", s)
	}
}
