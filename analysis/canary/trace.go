package canary

import (
	"serin.dev/serin/analysis/session"
	"serin.dev/serin/analysis/verdict"
)

// maxTrace is how many points a trace has at most. Past it every other one is
// dropped, and points come half as often.
const maxTrace = 240

// Trace is the evidence over time, for people: no decision rests on it.
type Trace struct {
	Every  int64 // ms between points; 0 before the first
	Points []Point
}

// Point is the evidence at one time. Log e-values are natural logarithms.
type Point struct {
	At         int64                  `json:"at"` // Unix ms, the receive time of a beacon
	Stage      int                    `json:"stage"`
	Sessions   verdict.Arms           `json:"sessions"`
	LogEHarm   float64                `json:"log_e_harm"` // of the rollout
	LogESafe   float64                `json:"log_e_safe"` // of the required guardrail with the weakest proof
	Guardrails map[string]PointOfEach `json:"guardrails"` // by name
	LogERatio  float64                `json:"log_e_sample_ratio"`
}

// PointOfEach is the evidence on one guardrail at one time.
type PointOfEach struct {
	LogEHarm float64      `json:"log_e_harm"`
	LogESafe float64      `json:"log_e_safe"`
	Failures verdict.Arms `json:"failures"`
}

// trace adds a point where it is time for one. The points are a function of the
// rows alone.
func (t *Test) trace(now int64) {
	if t.Trace.Every == 0 {
		t.Trace.Every = t.Rollout.Policy.Epoch.ms()
	}
	if n := len(t.Trace.Points); n > 0 && now/t.Trace.Every == t.Trace.Points[n-1].At/t.Trace.Every {
		return
	}
	if len(t.Trace.Points) == maxTrace {
		t.Trace.Every *= 2
		kept := t.Trace.Points[:0]
		for i, p := range t.Trace.Points {
			if i%2 == 0 {
				kept = append(kept, p)
			}
		}
		t.Trace.Points = kept
	}
	p := Point{At: now, Stage: t.Stage, Sessions: arms(t.Sessions), LogEHarm: t.harm(nil), LogESafe: min(t.weakest(nil), 1e9), LogERatio: t.Ratio.LogE(),
		Guardrails: map[string]PointOfEach{}}
	standing := t.standing()
	for m := range session.Metrics {
		if _, ok := t.Rollout.Policy.Guardrails[m.String()]; ok {
			p.Guardrails[m.String()] = PointOfEach{t.harmOf(m, nil), t.safeOf(m, nil), arms(standing.Failures[m])}
		}
	}
	for i := range t.Numbers {
		p.Guardrails[t.Numbers[i].Name] = PointOfEach{t.harmOfNumber(i, nil), t.safeOfNumber(i, nil), verdict.Arms{}}
	}
	t.Trace.Points = append(t.Trace.Points, p)
}

// Place is the evidence in one stratum or on one customer.
type Place struct {
	Name     string       `json:"name"`
	Sessions verdict.Arms `json:"sessions"`
	// Findings are those of the guardrails of which a session failed.
	Findings []verdict.Finding `json:"findings,omitempty"`
}

// Places returns the evidence on each stratum and each customer, in the order of
// their first session.
func (t *Test) Places() (strata, customers []Place) {
	of := func(all []Stratum, customer bool) []Place {
		places := []Place{}
		for k := range all {
			st := &all[k]
			p := Place{Name: st.Name, Sessions: arms(st.Sessions)}
			for m := range session.Metrics {
				if st.Failures[m] == [2]int64{} {
					continue
				}
				f := verdict.Finding{Guardrail: m.String(), Sessions: p.Sessions, Failures: arms(st.Failures[m]),
					Effect: t.effect(st.Marks[m]), LogEHarm: verdict.Bound(t.worse(m, st.Marks[m])), LogESafe: verdict.Bound(t.kept(t.guardrail(m), st.Marks[m]))}
				if customer {
					f.LogEHarm = verdict.Bound(t.worseForOne(m, st.Marks[m]))
				}
				if !customer && t.paired(m) {
					harm, safe := t.pairOf(k, m, nil)
					f.LogEHarm, f.LogESafe = verdict.Bound(harm), verdict.Bound(safe)
				}
				if f.Stratum = st.Name; customer {
					f.Stratum, f.Customer = "", st.Name
				}
				p.Findings = append(p.Findings, f)
			}
			places = append(places, p)
		}
		return places
	}
	return of(t.Strata, false), of(t.Parts, true)
}
