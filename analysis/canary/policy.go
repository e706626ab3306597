package canary

import (
	"encoding/json"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"serin.dev/serin/analysis/evalue"
	"serin.dev/serin/analysis/session"
	"serin.dev/serin/internal/event"
)

// What a stage's deadline without proof of safety leads to.
const (
	DeadlineRollback = "rollback"
	DeadlineHold     = "hold"
)

// The units that a guardrail counts.
const (
	UnitSession = "session" // each session once
	UnitUser    = "user"    // each user once in [UserWindow], by the user hash; a session without one is a user of its own
)

// The directions of a guardrail: which change of the share of failing sessions
// is harm.
const (
	DirectionIncrease = "increase"
	DirectionDecrease = "decrease" // fewer or lower: of what is better the more of it there is
	DirectionEither   = "either"   // fewer failures too, as of a metric that has gone blind
)

// The kinds of guardrails. One without a kind is a share of sessions that fail.
const (
	KindQuantile = "quantile" // of one value of each session or user, to a bucket of 4.4 %
	KindMean     = "mean"     // of one value of each
	KindRatio    = "ratio"    // of sums of two metrics, such as errors per view
)

// What is taken of a session or user that has several values.
const (
	TakeFirst = "first"
	TakeLast  = "last"
	TakeMax   = "max"
	TakeSum   = "sum"
)

// The evidence of a guardrail that is a share of sessions.
const (
	EvidenceCounts    = "counts"     // that of failures, given how many sessions were at risk: exact for rare ones, at once
	EvidenceTwoSample = "two_sample" // that of sessions of the age of report_after, failed or not: for what fails often, or an allocation that nobody plans
)

// What a verdict that rests on one network leads to.
const (
	InfluenceHold   = "hold"
	InfluenceIgnore = "ignore" // for an app whose users share a few networks, such as an intranet's
)

// How sessions come to their arms.
const (
	AllocationPlanned = "planned" // by chance, with the stage's weight
	AllocationFree    = "free"    // in ways that nobody plans, as from an app store: the verdict is observational
)

// Guardrail is a metric that the change must not harm.
type Guardrail struct {
	Margin    float64 `json:"margin"`              // tolerated worsening of the odds of failing; 0.25 is 25 %
	Floor     float64 `json:"floor"`               // a failure share proven to be below this is safe whatever the ratio
	Weight    float64 `json:"weight"`              // share of alpha; the weights are scaled to sum to 1 over the critical ones
	Optional  bool    `json:"optional"`            // a promote does not need its proof of safety
	Critical  *bool   `json:"critical,omitempty"`  // its harm rolls back; true. Harm of one that is not critical holds
	Direction string  `json:"direction,omitempty"` // increase, decrease or either; increase
	Unit      string  `json:"unit,omitempty"`      // session or user; session
	Evidence  string  `json:"evidence,omitempty"`  // counts or two_sample, of a share of sessions; by the allocation

	Kind     string  `json:"kind,omitempty"`     // quantile, mean or ratio: a guardrail on values, under a name of its own
	Metric   string  `json:"metric,omitempty"`   // KIND/NAME of the events that have the values, such as vital/LCP or metric/basket
	Per      string  `json:"per,omitempty"`      // of a ratio: the events of the denominator, such as view
	Quantile float64 `json:"quantile,omitempty"` // of a quantile, in (0,1)
	Bound    float64 `json:"bound,omitempty"`    // of a mean: values above it count as it; the evidence is exact then
	Take     string  `json:"take,omitempty"`     // first, last, max or sum, by the age of report_after; first, and of a ratio sum
}

// critical reports whether harm of the guardrail rolls back.
func (g *Guardrail) critical() bool { return g.Critical == nil || *g.Critical }

// GobEncode writes the guardrail as JSON: gob leaves out what a pointer points to
// where that is zero, so that one that is not critical would be read as one that is.
func (g Guardrail) GobEncode() ([]byte, error) {
	type plain Guardrail
	return json.Marshal(plain(g))
}

// GobDecode reads what GobEncode wrote.
func (g *Guardrail) GobDecode(b []byte) error {
	type plain Guardrail
	return json.Unmarshal(b, (*plain)(g))
}

// Policy says how much proof is needed. The zero value of each field means its
// default.
type Policy struct {
	Name         string   `json:"name,omitempty"`       // of a policy that the server keeps: fields left out are taken from it
	Revision     int      `json:"version,omitempty"`    // of the policy of that name, from 1
	Alpha        float64  `json:"alpha"`                // bound of the false-rollback probability of the whole rollout; 0.01
	Beta         float64  `json:"beta"`                 // bound of the false-promotion probability of each guardrail; 0.05
	RatioAlpha   float64  `json:"ratio_alpha"`          // level of the tests of the data: the sample ratio and losses, each; 0.001
	Tenancy      string   `json:"tenancy"`              // whose traffic counts; production
	Strata       []string `json:"strata"`               // of platform, device, network, country, os, browser; platform and device
	Tenants      string   `json:"tenants,omitempty"`    // the column that names the customer within the app: env; none
	Allocation   string   `json:"allocation,omitempty"` // planned or free; planned
	Influence    string   `json:"influence,omitempty"`  // hold or ignore, where one network decides; hold
	Epoch        Duration `json:"epoch"`                // length of the groups in which sessions are compared; 5s
	SilenceAfter Duration `json:"silence_after"`        // a session that said nothing after its exposure for this long is silent; 30s
	ReportAfter  Duration `json:"report_after"`         // age at which it is looked at what a session reported and lost; 2m
	Settle       Duration `json:"settle"`               // time after a change of weight in which the sample ratio is not tested; 60s
	Lease        Duration `json:"lease"`                // how long a promote may be acted on; 60s
	// EffectiveWithin is the time that a delivered rollback has before sessions that
	// still start on the canary are alerted of; 10m.
	EffectiveWithin Duration             `json:"effective_within,omitempty"`
	OnDeadline      string               `json:"on_deadline"`         // rollback or hold, where the stage does not say; rollback
	Retire          Duration             `json:"retire"`              // time after a rollback, or the last stage's promote, at which the rollout ends; 24h
	MaxAge          Duration             `json:"max_age"`             // age at which it ends whatever the verdict; 720h
	Unchecked       []string             `json:"unchecked,omitempty"` // losses in which the arms may differ, such as no_inp where the change is of what one interacts with
	SLOs            []string             `json:"slos,omitempty"`      // objectives whose error budgets must let a stage go on
	Budget          *BudgetLimit         `json:"budget,omitempty"`    // the rollout's own part of an error budget
	Guardrails      map[string]Guardrail `json:"guardrails"`          // by name; a name left out has its default
	Stages          []Stage              `json:"stages,omitempty"`    // of rollouts that name none
}

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

// tenantColumns are what can name a customer within an app: the schema has no
// attributes of sessions, so that it is the environment.
var tenantColumns = []string{"env"}

var nameRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Normalize fills in defaults and checks everything, reporting all faults
// together as [Invalid]. It is for a policy that stands by itself: one of a
// rollout is checked with it.
func (p *Policy) Normalize() error {
	var c checker
	if !nameRE.MatchString(p.Name) {
		c.want("name", p.Name, "1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit")
	}
	if p.Revision < 1 {
		c.want("version", p.Revision, "1 or more, rising with each change")
	}
	p.check(&c, "")
	if p.Stages != nil {
		checkStages(&c, p.Stages, "stages")
	}
	return c.err()
}

// Over returns the policy with what it leaves out taken from base.
func (p Policy) Over(base Policy) Policy {
	out := base
	out.Name, out.Revision = base.Name, base.Revision
	setFloat := func(dst *float64, v float64) {
		if v != 0 {
			*dst = v
		}
	}
	setText := func(dst *string, v string) {
		if v != "" {
			*dst = v
		}
	}
	setLength := func(dst *Duration, v Duration) {
		if v != 0 {
			*dst = v
		}
	}
	setFloat(&out.Alpha, p.Alpha)
	setFloat(&out.Beta, p.Beta)
	setFloat(&out.RatioAlpha, p.RatioAlpha)
	setText(&out.Tenancy, p.Tenancy)
	setText(&out.Tenants, p.Tenants)
	setText(&out.Allocation, p.Allocation)
	setText(&out.Influence, p.Influence)
	setText(&out.OnDeadline, p.OnDeadline)
	setLength(&out.Epoch, p.Epoch)
	setLength(&out.SilenceAfter, p.SilenceAfter)
	setLength(&out.ReportAfter, p.ReportAfter)
	setLength(&out.Settle, p.Settle)
	setLength(&out.Lease, p.Lease)
	setLength(&out.EffectiveWithin, p.EffectiveWithin)
	setLength(&out.Retire, p.Retire)
	setLength(&out.MaxAge, p.MaxAge)
	if p.Strata != nil {
		out.Strata = p.Strata
	}
	if p.Stages != nil {
		out.Stages = p.Stages
	}
	if p.Unchecked != nil {
		out.Unchecked = p.Unchecked
	}
	if p.SLOs != nil {
		out.SLOs = p.SLOs
	}
	if p.Budget != nil {
		out.Budget = p.Budget
	}
	out.SLOs = slices.Clone(out.SLOs)
	out.Unchecked = slices.Clone(out.Unchecked)
	out.Strata, out.Stages = slices.Clone(out.Strata), slices.Clone(out.Stages)
	out.Guardrails = maps.Clone(base.Guardrails)
	if out.Guardrails == nil {
		out.Guardrails = map[string]Guardrail{}
	}
	for name, g := range p.Guardrails {
		out.Guardrails[name] = g.over(out.Guardrails[name])
	}
	return out
}

func (g Guardrail) over(base Guardrail) Guardrail {
	if g.Margin == 0 {
		g.Margin = base.Margin
	}
	if g.Floor == 0 {
		g.Floor = base.Floor
	}
	if g.Weight == 0 {
		g.Weight = base.Weight
	}
	if g.Critical == nil {
		g.Critical = base.Critical
	}
	if g.Direction == "" {
		g.Direction = base.Direction
	}
	if g.Unit == "" {
		g.Unit = base.Unit
	}
	for _, f := range []struct {
		v    *string
		base string
	}{{&g.Evidence, base.Evidence}, {&g.Kind, base.Kind}, {&g.Metric, base.Metric}, {&g.Per, base.Per}, {&g.Take, base.Take}} {
		if *f.v == "" {
			*f.v = f.base
		}
	}
	if g.Quantile == 0 {
		g.Quantile = base.Quantile
	}
	if g.Bound == 0 {
		g.Bound = base.Bound
	}
	g.Optional = g.Optional || base.Optional
	return g
}

// check fills in defaults and notes faults below a path, which is empty or
// ends in a point.
func (p *Policy) check(c *checker, path string) {
	for _, f := range []struct {
		name string
		v    *float64
		def  float64
	}{{"alpha", &p.Alpha, 0.01}, {"beta", &p.Beta, 0.05}, {"ratio_alpha", &p.RatioAlpha, 0.001}} {
		if *f.v == 0 {
			*f.v = f.def
		}
		if !(*f.v > 0 && *f.v <= 0.5) {
			c.want(path+f.name, *f.v, "above 0, at most 0.5")
		}
	}
	if t, err := event.ParseTenancy(p.Tenancy); err != nil {
		c.want(path+"tenancy", p.Tenancy, "production, test, shadow or synthetic")
	} else {
		p.Tenancy = t.String()
	}
	if p.Strata == nil {
		p.Strata = []string{"platform", "device"}
	}
	for i, s := range p.Strata {
		if !slices.Contains(stratumColumns, s) {
			c.want(path+"strata", s, "of %v", stratumColumns)
		} else if slices.Contains(p.Strata[:i], s) {
			c.want(path+"strata", s, "each once")
		}
	}
	for _, s := range p.Unchecked {
		if !slices.Contains(session.LossNames(), s) {
			c.want(path+"unchecked", s, "of %v", session.LossNames())
		}
	}
	if p.Tenants != "" && !slices.Contains(tenantColumns, p.Tenants) {
		c.want(path+"tenants", p.Tenants, "of %v", tenantColumns)
	}
	for _, d := range []struct {
		name   string
		v      *Duration
		def    time.Duration
		lo, hi time.Duration
	}{
		{"epoch", &p.Epoch, 5 * time.Second, time.Second, 24 * time.Hour},
		{"silence_after", &p.SilenceAfter, 30 * time.Second, time.Second, 24 * time.Hour},
		{"report_after", &p.ReportAfter, 2 * time.Minute, time.Second, session.TTL * time.Millisecond},
		{"lease", &p.Lease, time.Minute, time.Second, 24 * time.Hour},
		{"settle", &p.Settle, time.Minute, 0, 24 * time.Hour},
		{"effective_within", &p.EffectiveWithin, time.Duration(defaultEffect), time.Minute, 24 * time.Hour},
		{"retire", &p.Retire, 24 * time.Hour, time.Minute, 90 * 24 * time.Hour},
		{"max_age", &p.MaxAge, 30 * 24 * time.Hour, time.Hour, 365 * 24 * time.Hour},
	} {
		if *d.v == 0 {
			*d.v = Duration(d.def)
		}
		if v := time.Duration(*d.v); v < d.lo || v > d.hi {
			c.want(path+d.name, v, "%v to %v", d.lo, d.hi)
		}
	}
	choose(c, path+"on_deadline", &p.OnDeadline, DeadlineRollback, DeadlineHold)
	choose(c, path+"allocation", &p.Allocation, AllocationPlanned, AllocationFree)
	choose(c, path+"influence", &p.Influence, InfluenceHold, InfluenceIgnore)
	p.checkBudgets(c, path)
	p.checkGuardrails(c, path+"guardrails")
}

// choose checks one of some words, of which the first is the default.
func choose(c *checker, field string, v *string, words ...string) {
	if *v == "" {
		*v = words[0]
	}
	if !slices.Contains(words, *v) {
		last := len(words) - 1
		c.want(field, *v, "%s or %s", strings.Join(words[:last], ", "), words[last])
	}
}

func (p *Policy) checkGuardrails(c *checker, path string) {
	full := map[string]Guardrail{}
	var sum float64
	for _, name := range p.numbers() {
		g := p.Guardrails[name]
		checkNumber(c, path+"."+name, name, &g)
		if g.critical() {
			sum += g.Weight
		}
		full[name] = g
	}
	for m := range session.Metrics {
		name, def := m.String(), defaultGuardrail[m]
		g := p.Guardrails[name].over(def)
		where := path + "." + name
		choose(c, where+".direction", &g.Direction, DirectionIncrease, DirectionDecrease, DirectionEither)
		switch fewer := g.Direction == DirectionDecrease; {
		case fewer && !(g.Margin > 0 && g.Margin <= evalue.MaxFewer):
			c.want(where+".margin", g.Margin, "above 0, at most %d where the direction is decrease", evalue.MaxFewer)
		case !(g.Margin > 0 && g.Margin <= 10):
			c.want(where+".margin", g.Margin, "above 0, at most 10")
		}
		switch own := p.Guardrails[name].Floor; {
		case g.Direction == DirectionDecrease && own != 0:
			c.want(where+".floor", own, "it absent, where the direction is decrease: no share of so few is safe")
		case g.Direction == DirectionDecrease:
			g.Floor = 0
		case !(g.Floor > 0 && g.Floor < 1):
			c.want(where+".floor", g.Floor, "above 0, below 1")
		}
		if !(g.Weight > 0 && !math.IsInf(g.Weight, 1)) {
			c.want(where+".weight", g.Weight, "above 0")
		}
		choose(c, where+".unit", &g.Unit, UnitSession, UnitUser)
		p.checkRate(c, where, &g)
		if g.critical() {
			sum += g.Weight
		}
		full[name] = g
	}
	if sum == 0 {
		c.want(path, "none critical", "at least one that is, or nothing could roll back")
		return
	}
	for name, g := range full {
		g.Weight /= sum
		full[name] = g
	}
	p.Guardrails = full
}
