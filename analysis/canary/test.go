package canary

import (
	"math"
	"slices"
	"strings"

	"serin.dev/serin/analysis/evalue"
	"serin.dev/serin/analysis/session"
	"serin.dev/serin/analysis/sketch"
	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/store/batch"
)

// Test is the running test of one rollout: what its sessions have done so far,
// as sufficient statistics. It is a pure function of the rollout, its stage
// changes and the rows it was shown, in their order. All exported fields are
// kept in checkpoints.
//
// Sessions are compared like with like: in groups that share a stratum and an
// epoch, which is a few seconds of the receive time of their first beacon. An
// epoch's at-risk counts are frozen when it closes, so that the share with
// which a failure falls to the canary under the null is known before the
// failure is scored, whenever it arrives (docs/statistics.md).
type Test struct {
	Tenant  string
	Rollout Rollout
	Created int64 // Unix ms
	Stage   int
	Staged  int64 // Unix ms when the stage began
	Now     int64 // highest receive time folded, Unix ms

	Strata   []Stratum // in the order of their first session
	Ratio    evalue.Ratio
	Sessions [2]int64 // by arm: baseline, canary
	Matured  [2]int64 // sessions older than silence_after
	Users    sketch.HLL
	Watch    []Watch // sessions not yet matured, oldest first

	// Instruments are the SDKs that measured sessions, in the order of their
	// first one, at most maxInstruments.
	Instruments []Instrument
	// Lost tests whether the sessions that lost events to shedding at the edge
	// fall to the canary as all sessions do.
	Lost evalue.Ratio

	ForcedBy *Force // a person's decision, if any
	Latched  bool   // rolled back, for good
	Why      verdict.Reason
	grid     *evalue.Grid
	index    map[string]int
}

// Stratum holds the evidence of one stratum.
type Stratum struct {
	Name     string // such as "web/mobile"
	Sessions [2]int64
	Marks    [session.Metrics]evalue.Marks
	Failures [session.Metrics][2]int64
	Open     []Epoch // epochs that still have at-risk sessions, oldest first
}

// Instrument is one SDK, by name and version, and the sessions it measured.
type Instrument struct {
	SDK      string
	Sessions [2]int64 // by arm: baseline, canary
}

// maxInstruments bounds the SDKs that are told apart; the others share one.
const maxInstruments = 16

// Epoch holds the sessions of one stratum that entered within one epoch.
type Epoch struct {
	Start   int64 // Unix ms
	Closed  bool
	AtRisk  [session.Metrics][2]int64 // not failed and scored yet
	Pending [session.Metrics][2]int64 // failed, not scored yet
}

// Watch is a session whose telemetry is awaited.
type Watch struct {
	Key session.Key
	Due int64
}

// Force is a person's decision, with who and why.
type Force struct {
	Decision string `json:"decision"`
	Who      string `json:"who"`
	Why      string `json:"why"`
	At       int64  `json:"at"` // Unix ms
}

// NewTest starts the test of a normalized rollout at a time in Unix ms.
func NewTest(tenant string, r Rollout, at int64) *Test {
	t := &Test{Tenant: tenant, Rollout: r, Created: at, Staged: at, Ratio: evalue.NewRatio()}
	t.Restore()
	return t
}

// Restore rebuilds what a checkpoint does not hold. Call it after decoding.
func (t *Test) Restore() {
	t.grid = evalue.NewGrid()
	t.index = map[string]int{}
	for i := range t.Strata {
		t.index[t.Strata[i].Name] = i
	}
}

func (t *Test) guardrail(m session.Metric) Guardrail {
	return t.Rollout.Policy.Guardrails[m.String()]
}

// SetStage moves the rollout to a stage at a time in Unix ms.
func (t *Test) SetStage(stage int, at int64) { t.Stage, t.Staged = stage, at }

// Enter enrolls a session by its first beacon, which begins at row lo of b. A
// session that takes no part in the rollout is left alone.
func (t *Test) Enter(s *session.Session, b *batch.Batch, lo int) {
	canary, ok := t.Rollout.Arm(batch.ParseArms(b.Text(batch.Arms, lo)), event.Release(b.Text(batch.Release, lo)))
	if !ok || b.Text(batch.Tenancy, lo) != t.Rollout.Policy.Tenancy {
		return
	}
	k := t.stratum(b, lo)
	st := &t.Strata[k]
	start := s.Entered - s.Entered%t.Rollout.Policy.Epoch.ms()
	ep := st.open(start)
	a := side(canary)
	for m := range session.Metrics {
		ep.AtRisk[m][a]++
	}
	st.Sessions[a]++
	t.Sessions[a]++
	t.Instruments[t.instrument(b.Text(batch.SDK, lo))].Sessions[a]++
	if canary {
		user := b.Text(batch.User, lo)
		if user == "" {
			user = s.Key.ID // without a user hash each session counts as one user
		}
		t.Users.Add(hash(user))
	}
	if s.Entered >= t.Staged+t.Rollout.Policy.Settle.ms() {
		t.Ratio.Add(canary, t.Rollout.Stages[t.Stage].Weight)
	}
	t.Watch = append(t.Watch, Watch{Key: s.Key, Due: s.Entered + t.Rollout.Policy.SilenceAfter.ms()})
	s.Enrolled = append(s.Enrolled, session.Enrollment{Rollout: t.Rollout.ID, Canary: canary, Stratum: k, Epoch: ep.Start})
}

// Fail counts a session's first failure of a metric.
func (t *Test) Fail(e session.Enrollment, m session.Metric) {
	st := &t.Strata[e.Stratum]
	a := side(e.Canary)
	st.Failures[m][a]++
	if i, ok := slices.BinarySearchFunc(st.Open, e.Epoch, func(ep Epoch, start int64) int { return int(ep.Start - start) }); ok {
		st.Open[i].Pending[m][a]++
	}
}

// Advance moves the test's time: it finds silent sessions in the table, and
// scores the failures of closed epochs. Time that does not pass an epoch's
// boundary changes no evidence.
func (t *Test) Advance(now int64, table *session.Table) {
	if now <= t.Now {
		return
	}
	before := t.Now
	t.Now = now
	t.listen(table)
	epoch := t.Rollout.Policy.Epoch.ms()
	if now/epoch == before/epoch {
		return
	}
	for k := range t.Strata {
		t.Strata[k].score(t.grid, now-now%epoch, now-session.TTL)
	}
}

// listen fails the sessions that were due to have said more by now.
func (t *Test) listen(table *session.Table) {
	n := 0
	for ; n < len(t.Watch) && t.Watch[n].Due <= t.Now; n++ {
		s := table.Sessions[t.Watch[n].Key]
		if s == nil {
			continue
		}
		for _, e := range s.Enrolled {
			if e.Rollout != t.Rollout.ID {
				continue
			}
			t.Matured[side(e.Canary)]++
			if s.Beacons <= 1 {
				t.Fail(e, session.Telemetry)
			}
		}
	}
	t.Watch = slices.Delete(t.Watch, 0, n)
}

// instrument returns the index of an SDK.
func (t *Test) instrument(sdk string) int {
	if i := slices.IndexFunc(t.Instruments, func(x Instrument) bool { return x.SDK == sdk }); i >= 0 {
		return i
	}
	if len(t.Instruments) == maxInstruments {
		return maxInstruments - 1
	}
	t.Instruments = append(t.Instruments, Instrument{SDK: sdk})
	return len(t.Instruments) - 1
}

// Lose counts a session's first loss of events to shedding at the edge. The
// canary's share of the sessions so far is what is expected of it.
func (t *Test) Lose(e session.Enrollment) {
	if all := t.Sessions[0] + t.Sessions[1]; all > 0 {
		t.Lost.Add(e.Canary, float64(t.Sessions[1])/float64(all))
	}
}

// comparable is how many sessions of each arm an instrument must have measured
// to count as used by both.
const comparable = 20

// unlike returns an SDK that measured canary sessions and hardly any of the
// baseline's, where such SDKs measured more than a tenth of the canary's: two
// SDKs can disagree about the truth, so that what looks like an improvement may
// be a new instrument.
func (t *Test) unlike() (sdk Instrument, found bool) {
	var alone int64
	for _, i := range t.Instruments {
		if i.Sessions[0] >= comparable {
			continue
		}
		alone += i.Sessions[1]
		if i.Sessions[1] > sdk.Sessions[1] {
			sdk = i
		}
	}
	return sdk, t.Sessions[0] >= comparable && t.Sessions[1] >= comparable && alone > t.Sessions[1]/10
}

// stratum returns the index of a row's stratum, which is made on first sight.
// Sessions of any SDK but the first that the test saw have strata of their own:
// like is compared with like, and measured by the same instrument.
func (t *Test) stratum(b *batch.Batch, row int) int {
	parts := make([]string, 0, 4)
	for _, name := range t.Rollout.Policy.Strata {
		v := b.Text(column(name), row)
		if v == "" {
			v = "unknown"
		}
		parts = append(parts, v)
	}
	name := strings.Join(parts, "/")
	if i := t.instrument(b.Text(batch.SDK, row)); i > 0 {
		name += " by " + t.Instruments[i].SDK
	}
	if k, ok := t.index[name]; ok {
		return k
	}
	// A forger can invent strata; past the bound they share one, so that
	// memory and the weights of the real ones stay.
	if len(t.Strata) >= maxStrata {
		name = "other"
		if k, ok := t.index[name]; ok {
			return k
		}
	}
	st := Stratum{Name: name}
	for m := range st.Marks {
		st.Marks[m] = t.grid.NewMarks()
	}
	t.Strata = append(t.Strata, st)
	t.index[name] = len(t.Strata) - 1
	return len(t.Strata) - 1
}

const maxStrata = 64

func column(name string) batch.Column {
	switch name {
	case "platform":
		return batch.Platform
	case "device":
		return batch.Device
	case "network":
		return batch.Network
	case "country":
		return batch.Country
	case "os":
		return batch.OS
	case "browser":
		return batch.Browser
	}
	panic("BUG: a stratum that Normalize let pass: " + name)
}

func side(canary bool) int {
	if canary {
		return 1
	}
	return 0
}

// open returns the epoch for a session that enters at start. Receive times
// rise but for a clock set back or groups that overtake one another: a session
// whose epoch is closed already joins the oldest one that is not, since a
// closed epoch's at-risk counts are frozen.
func (st *Stratum) open(start int64) *Epoch {
	i := len(st.Open)
	for i > 0 && st.Open[i-1].Start >= start && !st.Open[i-1].Closed {
		i--
	}
	if i < len(st.Open) && st.Open[i].Start == start {
		return &st.Open[i]
	}
	if i > 0 && st.Open[i-1].Start >= start {
		if i < len(st.Open) {
			return &st.Open[i]
		}
		start = st.Open[i-1].Start + 1 // all later ones are closed: an epoch of its own after them
	}
	st.Open = slices.Insert(st.Open, i, Epoch{Start: start})
	return &st.Open[i]
}

// score closes epochs that began before the current one and scores what is
// pending in closed ones. Epochs older than forget are dropped: the sessions
// in them are no longer known.
func (st *Stratum) score(g *evalue.Grid, current, forget int64) {
	drop := 0
	for i := range st.Open {
		ep := &st.Open[i]
		if ep.Start >= current {
			break
		}
		ep.Closed = true
		for m := range session.Metrics {
			x := ep.Pending[m]
			if x[0]+x[1] == 0 {
				continue
			}
			g.AddBatch(&st.Marks[m], x[1], x[0], ep.AtRisk[m][1], ep.AtRisk[m][0])
			ep.AtRisk[m][0] -= x[0]
			ep.AtRisk[m][1] -= x[1]
			ep.Pending[m] = [2]int64{}
		}
		if ep.Start < forget {
			drop = i + 1
		}
	}
	st.Open = slices.Delete(st.Open, 0, drop)
}

// hash spreads a text over 64 bits: FNV-1a with the finalizer of MurmurHash3,
// which FNV's weak high bits need before a HyperLogLog. It is the same in every
// process, since sketches are kept.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// logSum returns ln(exp(a)+exp(b)).
func logSum(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	if math.IsInf(a, -1) {
		return a
	}
	return a + math.Log1p(math.Exp(b-a))
}
