package analysis

import (
	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/cell"
	"serin.dev/serin/analysis/session"
	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/internal/tenant"
)

// Evidence is what a rollout's verdicts rest on.
type Evidence struct {
	Status
	History []verdict.Verdict `json:"history"`                  // all verdicts, oldest first
	Shadows []verdict.Verdict `json:"shadow_history,omitempty"` // of policies that were tried beside the active one
	Strata  []StratumEvidence `json:"strata"`
	Places  []canary.Place    `json:"places"`              // the strata with their evidence
	Parts   []canary.Place    `json:"customers,omitempty"` // likewise the customers of the app, where the policy names them
	Trace   []canary.Point    `json:"trace"`               // the evidence over time, at most some hundred points
	Cells   []CellEvidence    `json:"cells"`               // of the rollout's app since it was created
}

// StratumEvidence counts one stratum's sessions and failures.
type StratumEvidence struct {
	Name     string                  `json:"name"`
	Sessions verdict.Arms            `json:"sessions"`
	Failures map[string]verdict.Arms `json:"failures"` // by guardrail
}

// CellEvidence sums the cells of one release and metric.
type CellEvidence struct {
	Release string        `json:"release"`
	Metric  string        `json:"metric"`
	Exposed int64         `json:"exposed"`
	Failed  int64         `json:"failed"`
	P75     verdict.Bound `json:"p75"` // of a vital's values; null for a guardrail
}

// Evidence returns the evidence of one rollout, [ErrNotFound] or [ErrEnded].
func (e *Engine) Evidence(id tenant.ID, rollout string) (Evidence, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	k := rolloutKey{id.String(), rollout}
	t, ok := e.find(k)
	if !ok {
		return Evidence{}, e.absent(k)
	}
	return evidence(e.status(k), t, e.records[k], e.fold.Cells), nil
}

// evidence shows what a test rests on.
func evidence(s Status, t *canary.Test, records []Record, cells *cell.Store) Evidence {
	if !s.Ended && s.Verdict.Number > 0 {
		s.measure(t)
	}
	// Lists are shown empty, never as null.
	ev := Evidence{Status: s, History: []verdict.Verdict{}, Strata: []StratumEvidence{}, Trace: append([]canary.Point{}, t.Trace.Points...), Cells: []CellEvidence{}}
	for _, r := range records {
		if r.Verdict == nil {
			continue
		}
		if r.Verdict.Shadow {
			ev.Shadows = append(ev.Shadows, *r.Verdict)
		} else {
			ev.History = append(ev.History, *r.Verdict)
		}
	}
	for i := range t.Strata {
		st := &t.Strata[i]
		se := StratumEvidence{Name: st.Name, Sessions: verdict.Arms{Canary: st.Sessions[1], Baseline: st.Sessions[0]}, Failures: map[string]verdict.Arms{}}
		for m := range session.Metrics {
			se.Failures[m.String()] = verdict.Arms{Canary: st.Failures[m][1], Baseline: st.Failures[m][0]}
		}
		ev.Strata = append(ev.Strata, se)
	}
	ev.Places, ev.Parts = t.Places()
	from := t.Created - t.Created%60_000
	for _, row := range cells.Sum(t.Tenant, t.Rollout.App, from, 1<<62) {
		ev.Cells = append(ev.Cells, cellEvidence(row))
	}
	return ev
}

func cellEvidence(r cell.Row) CellEvidence {
	c := CellEvidence{Release: r.Release, Metric: r.Metric, Exposed: r.Exposed, Failed: r.Failed, P75: verdict.Unknown}
	if r.Values != nil {
		c.P75 = verdict.Bound(r.Values.Quantile(0.75))
	}
	return c
}
