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
	"fmt"
	"regexp"
	"time"

	"serin.dev/serin/internal/event"
)

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
	Weight      float64  `json:"weight"`                // planned share of sessions on the canary, in (0,1)
	MinSessions int64    `json:"min_sessions"`          // canary sessions needed before a promote; default 100
	Dwell       Duration `json:"dwell"`                 // least time in the stage before a promote; default 60s
	Deadline    Duration `json:"deadline"`              // time after which on_deadline decides; default 1h
	OnDeadline  string   `json:"on_deadline,omitempty"` // rollback or hold; default the policy's
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

// Normalize fills in defaults and checks everything, reporting all faults
// together as [Invalid].
func (r *Rollout) Normalize() error {
	var c checker
	if !idRE.MatchString(r.ID) {
		c.want("id", r.ID, "1 to 128 of A-Z a-z 0-9 . _ -, beginning with a letter or digit")
	}
	for _, f := range []struct{ name, v string }{{"app", r.App}, {"change", r.Change}, {"canary", r.Canary}, {"baseline", r.Baseline}} {
		if f.v == "" || len(f.v) > event.MaxName {
			c.want(f.name, f.v, "1 to %d bytes", event.MaxName)
		}
	}
	if r.Canary == r.Baseline && r.Canary != "" {
		c.want("baseline", r.Baseline, "another than canary")
	}
	// In beacons these names mean the arms of any change.
	if r.Canary == "baseline" {
		c.want("canary", r.Canary, "another name than that of the other arm")
	}
	if r.Baseline == "canary" {
		c.want("baseline", r.Baseline, "another name than that of the other arm")
	}
	if r.Stages == nil {
		r.Stages = r.Policy.Stages
	}
	r.Policy.Stages = nil
	checkStages(&c, r.Stages, "stages")
	r.Policy.check(&c, "policy.")
	for i := range r.Stages {
		if s := &r.Stages[i]; s.OnDeadline == "" {
			s.OnDeadline = r.Policy.OnDeadline
		}
	}
	return c.err()
}

// checkStages fills in defaults and notes faults.
func checkStages(c *checker, stages []Stage, path string) {
	if len(stages) == 0 || len(stages) > 32 {
		c.want(path, len(stages), "1 to 32 stages")
	}
	last := 0.0
	for i := range stages {
		s := &stages[i]
		where := fmt.Sprintf("%s[%d].", path, i)
		if !(s.Weight > 0 && s.Weight < 1) {
			c.want(where+"weight", s.Weight, "above 0 and below 1 (at 1 nothing is left to compare with)")
		} else if s.Weight < last {
			c.want(where+"weight", s.Weight, "not below the stage before")
		}
		last = s.Weight
		if s.MinSessions == 0 {
			s.MinSessions = 100
		}
		setDuration(&s.Dwell, time.Minute)
		setDuration(&s.Deadline, time.Hour)
		if s.MinSessions < 0 {
			c.want(where+"min_sessions", s.MinSessions, "0 or more")
		}
		if s.Dwell < 0 {
			c.want(where+"dwell", time.Duration(s.Dwell), "0s or more")
		}
		if s.Deadline <= s.Dwell {
			c.want(where+"deadline", time.Duration(s.Deadline), "longer than the dwell of %v", time.Duration(s.Dwell))
		}
		if s.OnDeadline != "" {
			choose(c, where+"on_deadline", &s.OnDeadline, DeadlineRollback, DeadlineHold)
		}
	}
}

func setDuration(d *Duration, def time.Duration) {
	if *d == 0 {
		*d = Duration(def)
	}
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
