// Package verdict holds what the analysis hands out: the numbered answer for a
// stage of a rollout, with its evidence and its reasons. Alerting and the API
// know the analysis by this package alone.
//
// Three layers are kept apart. Evidence is statistics; a verdict is a decision;
// an action is what a delivery tool then does, and is not ours.
package verdict

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"
)

// Decision is what a delivery tool should do. The zero value is [Hold]: a
// verdict that was never computed must never promote.
type Decision int

// The decisions.
const (
	Hold     Decision = iota // still collecting, or something is wrong with the data; the reasons say which
	Promote                  // every required guardrail is proven not worse than its margin
	Rollback                 // harm is proven, or the time ran out without proof of safety; latched
)

var decisionNames = []string{"hold", "promote", "rollback"}

// String returns hold, promote or rollback.
func (d Decision) String() string { return decisionNames[d] }

// MarshalText writes the decision's name.
func (d Decision) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a decision's name.
func (d *Decision) UnmarshalText(b []byte) error {
	i := slices.Index(decisionNames, string(b))
	if i < 0 {
		return fmt.Errorf("decision %q: want hold, promote or rollback", b)
	}
	*d = Decision(i)
	return nil
}

// Code names a reason. The list is closed, append only.
type Code string

// The reasons.
const (
	Harm        Code = "harm"                  // the harm evidence reached 1/alpha
	Safe        Code = "safe"                  // every required guardrail reached 1/beta
	Collecting  Code = "collecting"            // minimum exposure or dwell is not reached
	Evidence    Code = "evidence"              // the evidence does not suffice yet
	NoExposure  Code = "no_exposure"           // no session of an arm was seen
	SampleRatio Code = "sample_ratio_mismatch" // the arms' shares are not as planned
	Instruments Code = "instruments"           // the arms are measured by different SDKs
	UnequalLoss Code = "unequal_loss"          // one arm lost more of its events to shedding
	Deadline    Code = "deadline"              // the stage's deadline passed without proof of safety
	Stale       Code = "stale"                 // the analysis is behind the journal
	Override    Code = "override"              // a person decided; who and why are told
	Missing     Code = "missing"               // one arm's sessions report less than the other's, or lose more
	Influence   Code = "influence"             // without one network the verdict would be another
	Advisory    Code = "advisory_harm"         // a guardrail that is not critical is harmed
	BudgetHolds Code = "error_budget"          // the error budget of an objective lets no stage go on
	Overspent   Code = "budget_spent"          // the rollout spent more of an error budget than it may
)

// Reason says why, for machines and for people.
type Reason struct {
	Code Code   `json:"code"`
	Text string `json:"text"`
}

// Bound is a number that may be infinite or unknown (NaN); JSON shows such a
// one as null.
type Bound float64

// Percent says a share in per cent, "-" where it is not known.
func (b Bound) Percent() string {
	x := 100 * float64(b)
	switch {
	case math.IsNaN(x) || math.IsInf(x, 0):
		return "-"
	case math.Abs(x) >= 1000:
		return fmt.Sprintf("%.0f %%", x)
	}
	return fmt.Sprintf("%.1f %%", x)
}

// MarshalJSON writes null for NaN and infinities.
func (b Bound) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(b)) || math.IsInf(float64(b), 0) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(b))
}

// UnmarshalJSON reads null as NaN.
func (b *Bound) UnmarshalJSON(p []byte) error {
	if string(p) == "null" {
		*b = Bound(math.NaN())
		return nil
	}
	return json.Unmarshal(p, (*float64)(b))
}

// Arms counts something on both sides.
type Arms struct {
	Canary   int64 `json:"canary"`
	Baseline int64 `json:"baseline"`
}

// Effect is the canary's odds of failing relative to the baseline's, with a
// confidence sequence that holds at all looks at once.
type Effect struct {
	Ratio Bound   `json:"ratio"` // point estimate, from 0.25 to 12 of a share of sessions, and at an end that or beyond; null: no failure was seen yet
	Lo    Bound   `json:"lo"`
	Hi    Bound   `json:"hi"` // null: no upper bound yet
	Alpha float64 `json:"alpha"`
}

// Finding is the evidence on one guardrail, over all strata or in one of them.
// Log e-values are natural logarithms.
type Finding struct {
	Guardrail string  `json:"guardrail"`
	Stratum   string  `json:"stratum,omitempty"`   // empty: all strata
	Customer  string  `json:"customer,omitempty"`  // of the app, where the policy names them; empty: all
	Kind      string  `json:"kind,omitempty"`      // quantile, mean or ratio; empty: a share of sessions that fail
	Unit      string  `json:"unit,omitempty"`      // what is counted: user, or sessions where it is empty
	Direction string  `json:"direction,omitempty"` // of a share of sessions, which change is harm: decrease or either; empty: increase
	Sessions  Arms    `json:"sessions"`
	Failures  Arms    `json:"failures"` // sessions that failed
	Effect    Effect  `json:"effect"`
	LogEHarm  Bound   `json:"log_e_harm"`
	LogESafe  Bound   `json:"log_e_safe,omitempty"`
	Margin    float64 `json:"margin,omitempty"` // tolerated worsening of the odds: 0.25 is 25 %
	Required  bool    `json:"required,omitempty"`
	Blamed    bool    `json:"blamed,omitempty"`
	Number    *Number `json:"number,omitempty"` // of a guardrail on values
	More      *More   `json:"more,omitempty"`   // of a required guardrail without proof of safety: what it still needs
}

// Number is what a guardrail on values measured, in their unit, over all strata
// in the stage. Null is what is not known.
type Number struct {
	Metric     string `json:"metric"`
	Baseline   Bound  `json:"baseline"` // the quantile, to half a bucket (2.2 %), the mean or the ratio
	Canary     Bound  `json:"canary"`
	Difference Bound  `json:"difference"` // the canary's less the baseline's
	Lo         Bound  `json:"lo"`         // of the difference; of a quantile the effect has the interval, as a ratio
	Hi         Bound  `json:"hi"`
	Refused    string `json:"refused,omitempty"` // why nothing is said yet
}

// More is about what a proof of safety still needs, if the canary is as good as
// the baseline and sessions come and fail as they did in the stage so far.
type More struct {
	Failures Bound      `json:"failures"` // more that fail, of both arms together; null: the other proof, below the floor, comes first
	Sessions Bound      `json:"sessions"` // more canary sessions; null: it cannot be told, or none suffice
	At       *time.Time `json:"at,omitempty"`
}

// Outlook is what a stage can still come to.
type Outlook struct {
	Deadline   time.Time  `json:"deadline"`
	Promote    *time.Time `json:"promote,omitempty"` // when the last proof is likely; absent where it cannot be told
	Needs      string     `json:"needs,omitempty"`   // the guardrail whose proof comes last
	Detectable Bound      `json:"detectable_ratio"`  // the smallest harm, as an odds ratio, that is likely shown by the deadline; null: none
	Detects    string     `json:"detects,omitempty"` // the guardrail of which that holds
}

// Loss compares how many sessions of a fixed age lack something, or lost it.
type Loss struct {
	Name     string `json:"name"`     // no_show, no_lcp, no_inp, no_cls, seq_gap, client_drop or no_init
	Sessions Arms   `json:"sessions"` // of that age
	Lost     Arms   `json:"lost"`     // that have the loss
	Ratio    Bound  `json:"ratio"`    // of the odds; null: there was none
	LogE     Bound  `json:"log_e"`    // that the arms differ by more than a fifth
}

// Network is what one network prefix has to do with a verdict.
type Network struct {
	Networks int    `json:"networks"`         // seen, up to 64
	Judged   bool   `json:"judged"`           // whether there were enough of them, and the policy wants it
	Prefix   string `json:"prefix,omitempty"` // of the one without which the verdict would be another, or the evidence least
	Sessions Arms   `json:"sessions"`
	Failures Arms   `json:"failures"` // of all guardrails
	LogE     Bound  `json:"log_e"`    // the evidence without it, of harm or of the weakest proof of safety; null: it was not asked for
}

// Radius is how far a change reached and what it did there.
type Radius struct {
	Sessions int64 `json:"sessions"` // canary sessions
	Users    int64 `json:"users"`    // canary users, estimated to about 2 %
	Excess   Bound `json:"excess_failed_sessions"`
	ExcessLo Bound `json:"excess_lo"`
	ExcessHi Bound `json:"excess_hi"`
}

// Verdict is the answer for one stage. Number rises by one with every verdict
// of a rollout; a receiver drops any number that is not above the last one.
type Verdict struct {
	Version    int       `json:"v"` // of this schema: 1
	Tenant     string    `json:"tenant"`
	Rollout    string    `json:"rollout"`
	App        string    `json:"app"`
	Change     string    `json:"change"`
	Canary     string    `json:"canary"`
	Baseline   string    `json:"baseline"`
	Number     uint64    `json:"number"`
	Decision   Decision  `json:"decision"`
	Stage      int       `json:"stage"` // from 0
	Weight     float64   `json:"weight"`
	Reasons    []Reason  `json:"reasons"`
	Sentence   string    `json:"sentence"` // one that a person can act on
	Policy     string    `json:"policy"`   // digest of the policy in force
	PolicyName string    `json:"policy_name,omitempty"`
	Revision   int       `json:"policy_version,omitempty"`
	Shadow     bool      `json:"shadow,omitempty"` // of a policy that is tried beside the active one: told to nobody, acted on by nobody
	IssuedAt   time.Time `json:"issued_at"`
	ValidUntil time.Time `json:"valid_until"` // a promote is a lease; after this it must be read as hold
	Position   uint64    `json:"position"`    // journal position of the evidence
	Sessions   Arms      `json:"sessions"`
	LogEHarm   Bound     `json:"log_e_harm"`
	LogNeeded  float64   `json:"log_e_needed"` // ln(1/alpha)
	LogERatio  Bound     `json:"log_e_sample_ratio"`
	Findings   []Finding `json:"findings"`
	Blame      []Finding `json:"blame,omitempty"` // guardrails and strata that e-BH names, strongest first
	Radius     Radius    `json:"blast_radius"`
	Losses     []Loss    `json:"losses,omitempty"` // how alike the arms are measured
	Network    Network   `json:"network"`
	Outlook    *Outlook  `json:"outlook,omitempty"` // of a hold
	// Budgets are the objectives of the policy whose error budget lets no stage go on,
	// and Spend is what the rollout spent of its own part of one, where it has one.
	Budgets []Withheld `json:"budgets,omitempty"`
	Spend   *Spend     `json:"spend,omitempty"`
	// Confounded are the other changes that are under way on the app: what is
	// found of one may be the other's doing. Arms that are drawn independently
	// make it a matter of what both do together.
	Confounded []string `json:"confounded,omitempty"`
	// Observational says why the arms are not comparable as in an experiment;
	// empty: they are.
	Observational string `json:"observational,omitempty"`
}

// At returns the decision as it must be read at a time: a promote whose lease
// has run out is a hold.
func (v *Verdict) At(now time.Time) Decision {
	if v.Decision == Promote && now.After(v.ValidUntil) {
		return Hold
	}
	return v.Decision
}

// Unknown is the [Bound] of what is not known.
var Unknown = Bound(math.NaN())
