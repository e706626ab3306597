// Package canary turns evidence into decisions: it holds what a rollout is
// (its change, arms, stages and policy), folds session outcomes into the
// e-processes of its guardrails, and decides.
//
// Nothing here reads a clock: time comes with the rows and with the question.
package canary

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"time"

	"serin.dev/serin/analysis/session"
	"serin.dev/serin/internal/event"
)

// ErrInvalid says that a rollout as given cannot be; the message names each
// field, its value and what is allowed.
var ErrInvalid = errors.New("invalid rollout")

// Duration is a time.Duration that JSON spells as text, such as "90s".
type Duration time.Duration

// MarshalText writes the duration as time.Duration does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("duration %q: want a number with a unit, such as 90s or 15m", b)
	}
	*d = Duration(v)
	return nil
}

func (d Duration) ms() int64 { return time.Duration(d).Milliseconds() }

// Stage is one step of a rollout.
type Stage struct {
	Weight      float64  `json:"weight"`       // planned share of sessions on the canary, in (0,1)
	MinSessions int64    `json:"min_sessions"` // canary sessions needed before a promote; default 100
	Dwell       Duration `json:"dwell"`        // least time in the stage before a promote; default 60s
	Deadline    Duration `json:"deadline"`     // time after which on_deadline decides; default 1h
}

// Guardrail is a metric that the change must not harm.
type Guardrail struct {
	Margin   float64 `json:"margin"`   // tolerated worsening of the odds of failing; 0.25 is 25 %
	Floor    float64 `json:"floor"`    // a failure share proven to be below this is safe whatever the ratio
	Weight   float64 `json:"weight"`   // share of alpha; the weights are scaled to sum to 1
	Optional bool    `json:"optional"` // a promote does not need its proof of safety
}

// Policy says how much proof is needed. The zero value of each field means its
// default.
type Policy struct {
	Alpha        float64              `json:"alpha"`         // bound of the false-rollback probability of the whole rollout; 0.01
	Beta         float64              `json:"beta"`          // bound of the false-promotion probability of each guardrail; 0.05
	RatioAlpha   float64              `json:"ratio_alpha"`   // level of the sample-ratio test; 0.001
	Tenancy      string               `json:"tenancy"`       // whose traffic counts; production
	Strata       []string             `json:"strata"`        // of platform, device, network, country, os, browser; platform and device
	Epoch        Duration             `json:"epoch"`         // length of the groups in which sessions are compared; 5s
	SilenceAfter Duration             `json:"silence_after"` // a session that said nothing after its exposure for this long is silent; 30s
	Settle       Duration             `json:"settle"`        // time after a change of weight in which the sample ratio is not tested; 60s
	Lease        Duration             `json:"lease"`         // how long a promote may be acted on; 60s
	OnDeadline   string               `json:"on_deadline"`   // rollback or hold; rollback
	Guardrails   map[string]Guardrail `json:"guardrails"`    // by name; a name left out has its default
}

// Rollout is a change going out in stages, as a delivery tool registers it.
type Rollout struct {
	ID       string  `json:"id"`       // 1 to 128 of A-Z a-z 0-9 . _ -; unique within the tenant
	App      string  `json:"app"`      //
	Change   string  `json:"change"`   // the key of the arms, such as release/2.4.1 or flag/new-checkout
	Canary   string  `json:"canary"`   // canary release; for a flag or a configuration the canary variant
	Baseline string  `json:"baseline"` // likewise of the baseline
	Stages   []Stage `json:"stages"`
	Policy   Policy  `json:"policy"`
}

var idRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// defaultGuardrail has the share of alpha and the margin of each guardrail.
// Errors weigh most: they are what a rollback is for (docs/statistics.md).
var defaultGuardrail = [session.Metrics]Guardrail{
	session.Errors:    {Margin: 0.5, Floor: 0.002, Weight: 0.35},
	session.Telemetry: {Margin: 0.5, Floor: 0.005, Weight: 0.2},
	session.Requests:  {Margin: 0.5, Floor: 0.002, Weight: 0.15},
	session.LCP:       {Margin: 0.25, Floor: 0.01, Weight: 0.1},
	session.INP:       {Margin: 0.25, Floor: 0.01, Weight: 0.1},
	session.CLS:       {Margin: 0.25, Floor: 0.01, Weight: 0.1},
}

// strata that a policy may cut by, and their columns.
var stratumColumns = []string{"platform", "device", "network", "country", "os", "browser"}

// Normalize fills in defaults and checks everything, reporting all faults
// together as [ErrInvalid].
func (r *Rollout) Normalize() error {
	var faults []error
	fault := func(field string, value any, want string) {
		faults = append(faults, fmt.Errorf("%s: %v: want %s", field, value, want))
	}
	if !idRE.MatchString(r.ID) {
		fault("id", fmt.Sprintf("%q", r.ID), "1 to 128 of A-Z a-z 0-9 . _ -, beginning with a letter or digit")
	}
	for _, f := range []struct{ name, v string }{{"app", r.App}, {"change", r.Change}, {"canary", r.Canary}, {"baseline", r.Baseline}} {
		if f.v == "" || len(f.v) > event.MaxName {
			fault(f.name, fmt.Sprintf("%q", f.v), fmt.Sprintf("1 to %d bytes", event.MaxName))
		}
	}
	if r.Canary == r.Baseline && r.Canary != "" {
		fault("baseline", fmt.Sprintf("%q", r.Baseline), "another than canary")
	}
	if len(r.Stages) == 0 || len(r.Stages) > 32 {
		fault("stages", len(r.Stages), "1 to 32 stages")
	}
	last := 0.0
	for i := range r.Stages {
		s := &r.Stages[i]
		where := fmt.Sprintf("stages[%d].", i)
		if !(s.Weight > 0 && s.Weight < 1) {
			fault(where+"weight", s.Weight, "above 0 and below 1 (at 1 nothing is left to compare with)")
		} else if s.Weight < last {
			fault(where+"weight", s.Weight, "not below the stage before")
		}
		last = s.Weight
		if s.MinSessions == 0 {
			s.MinSessions = 100
		}
		setDuration(&s.Dwell, time.Minute)
		setDuration(&s.Deadline, time.Hour)
		if s.MinSessions < 0 {
			fault(where+"min_sessions", s.MinSessions, "0 or more")
		}
		if s.Dwell < 0 || s.Deadline <= s.Dwell {
			fault(where+"deadline", time.Duration(s.Deadline), "longer than dwell, and dwell not negative")
		}
	}
	p := &r.Policy
	for _, f := range []struct {
		name string
		v    *float64
		def  float64
	}{{"alpha", &p.Alpha, 0.01}, {"beta", &p.Beta, 0.05}, {"ratio_alpha", &p.RatioAlpha, 0.001}} {
		if *f.v == 0 {
			*f.v = f.def
		}
		if !(*f.v > 0 && *f.v <= 0.5) {
			fault("policy."+f.name, *f.v, "above 0, at most 0.5")
		}
	}
	if _, err := event.ParseTenancy(p.Tenancy); err != nil {
		faults = append(faults, fmt.Errorf("policy.%w", err))
	} else if p.Tenancy == "" {
		p.Tenancy = event.Production.String()
	}
	if p.Strata == nil {
		p.Strata = []string{"platform", "device"}
	}
	for _, s := range p.Strata {
		if !slices.Contains(stratumColumns, s) {
			fault("policy.strata", fmt.Sprintf("%q", s), fmt.Sprintf("of %v", stratumColumns))
		}
	}
	setDuration(&p.Epoch, 5*time.Second)
	setDuration(&p.SilenceAfter, 30*time.Second)
	setDuration(&p.Lease, time.Minute)
	setDuration(&p.Settle, time.Minute)
	for _, d := range []struct {
		name string
		v    Duration
		lo   time.Duration
	}{{"epoch", p.Epoch, time.Second}, {"silence_after", p.SilenceAfter, time.Second}, {"lease", p.Lease, time.Second}, {"settle", p.Settle, 0}} {
		if time.Duration(d.v) < d.lo || time.Duration(d.v) > 24*time.Hour {
			fault("policy."+d.name, time.Duration(d.v), fmt.Sprintf("%v to 24h", d.lo))
		}
	}
	switch p.OnDeadline {
	case "":
		p.OnDeadline = "rollback"
	case "rollback", "hold":
	default:
		fault("policy.on_deadline", fmt.Sprintf("%q", p.OnDeadline), "rollback or hold")
	}
	r.normalizeGuardrails(fault)
	if len(faults) > 0 {
		return fmt.Errorf("%w: %w", ErrInvalid, errors.Join(faults...))
	}
	return nil
}

func setDuration(d *Duration, def time.Duration) {
	if *d == 0 {
		*d = Duration(def)
	}
}

func (r *Rollout) normalizeGuardrails(fault func(string, any, string)) {
	full := map[string]Guardrail{}
	var sum float64
	for name := range r.Policy.Guardrails {
		if _, ok := session.ParseMetric(name); !ok {
			fault("policy.guardrails", fmt.Sprintf("%q", name), fmt.Sprintf("of %v", session.Names()))
		}
	}
	for m := range session.Metrics {
		name, def := m.String(), defaultGuardrail[m]
		g, given := r.Policy.Guardrails[name]
		if !given {
			g = def
		}
		if g.Margin == 0 {
			g.Margin = def.Margin
		}
		if g.Floor == 0 {
			g.Floor = def.Floor
		}
		if g.Weight == 0 {
			g.Weight = def.Weight
		}
		where := "policy.guardrails." + name
		if !(g.Margin > 0 && g.Margin <= 10) {
			fault(where+".margin", g.Margin, "above 0, at most 10")
		}
		if !(g.Floor > 0 && g.Floor < 1) {
			fault(where+".floor", g.Floor, "above 0, below 1")
		}
		if !(g.Weight > 0 && !math.IsInf(g.Weight, 1)) {
			fault(where+".weight", g.Weight, "above 0")
		}
		sum += g.Weight
		full[name] = g
	}
	for name, g := range full {
		g.Weight /= sum
		full[name] = g
	}
	r.Policy.Guardrails = full
}

// Digest identifies the policy and the stages in force: 12 hex digits of the
// SHA-256 of their JSON.
func (r *Rollout) Digest() string {
	b, err := json.Marshal(struct {
		Stages []Stage
		Policy Policy
	}{r.Stages, r.Policy})
	if err != nil {
		panic("BUG: a rollout that is not JSON: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:6])
}

// Arm says on which side of the change a session is, from the arms of its
// first beacon and, for a release, from its release. ok is false for a session
// that takes no part.
func (r *Rollout) Arm(arms []event.Arm, release event.Release) (canary, ok bool) {
	for _, a := range arms {
		if a.Change != r.Change {
			continue
		}
		switch a.Variant {
		case "canary", r.Canary:
			return true, true
		case "baseline", r.Baseline:
			return false, true
		}
		return false, false
	}
	switch string(release) {
	case r.Canary:
		return true, true
	case r.Baseline:
		return false, true
	}
	return false, false
}
