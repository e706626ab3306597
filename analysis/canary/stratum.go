package canary

import (
	"cmp"
	"slices"
	"strings"

	"serin.dev/serin/analysis/evalue"
	"serin.dev/serin/analysis/session"
	"serin.dev/serin/internal/store/batch"
)

// Stratum holds the evidence of one stratum.
type Stratum struct {
	Name     string // such as "web/mobile"
	First    int64  // start of the epoch in which it was first seen, Unix ms
	Sessions [2]int64
	Marks    [session.Metrics]evalue.Marks
	Failures [session.Metrics][2]int64
	Lost     [session.Losses]evalue.Marks
	Losses   [session.Losses][2]int64
	Pairs    [session.Metrics]evalue.TwoSample // of guardrails with that evidence
	Open     []Epoch                           // epochs that still have at-risk sessions, oldest first
}

// Mark is one failure that is not scored yet.
type Mark struct {
	Metric  session.Metric
	Arm     uint8 // 0 is the baseline, 1 the canary
	Network string
}

// Epoch holds the sessions of one stratum that entered within one epoch. There
// are thousands, so that they are kept small.
type Epoch struct {
	Start   int64 // Unix ms
	Closed  bool
	Entered [2]int32                  // sessions
	AtRisk  [session.Metrics][2]int32 // not failed and scored yet
	Pending [session.Metrics][2]int32 // failed, not scored yet
	By      []Mark                    // those, with their networks
	// Entering holds what each network has at risk until the epoch closes, Crowds
	// from then on what the heavy ones have, by name.
	Entering map[string]*Crowd
	Crowds   []Crowd
	Lost     *EpochLosses // nil while none is known
}

// Crowd is what one network has at risk in an epoch.
type Crowd struct {
	Network string
	AtRisk  [session.Metrics][2]int32
}

// enter puts a session of an arm at risk for the guardrails that count it.
func (ep *Epoch) enter(network string, a int, counts func(session.Metric) bool) {
	c := ep.Entering[network]
	if c == nil {
		if ep.Entering == nil {
			ep.Entering = map[string]*Crowd{}
		}
		c = &Crowd{Network: network}
		ep.Entering[network] = c
	}
	for m := range session.Metrics {
		if counts(m) {
			ep.AtRisk[m][a]++
			c.AtRisk[m][a]++
		}
	}
	ep.Entered[a]++
}

// close freezes what is at risk and keeps the networks that are heavy. Which are
// is known at the end of the epoch, so that the order within it does not matter.
func (ep *Epoch) close(networks *ledger) {
	if ep.Closed {
		return
	}
	ep.Closed = true
	for _, c := range ep.Entering {
		if networks.heavy(c.Network) {
			ep.Crowds = append(ep.Crowds, *c)
		}
	}
	ep.Crowds = slices.Clip(ep.Crowds)
	slices.SortFunc(ep.Crowds, func(a, b Crowd) int { return cmp.Compare(a.Network, b.Network) })
	ep.Entering = nil
}

// EpochLosses counts the sessions of an epoch with each loss.
type EpochLosses struct {
	Scored  [session.Losses][2]int32
	Pending [session.Losses][2]int32
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
	st.First = t.Now - t.Now%t.Rollout.Policy.Epoch.ms()
	t.Strata = append(t.Strata, st)
	t.index[name] = len(t.Strata) - 1
	t.rank()
	return len(t.Strata) - 1
}

// rank orders the strata by the epoch of their first session and their name, so
// that the order in which sessions come within an epoch moves no weight. A
// stratum of the epoch that is open has no evidence yet.
func (t *Test) rank() {
	t.ranked = t.ranked[:0]
	for k := range t.Strata {
		t.ranked = append(t.ranked, k)
	}
	slices.SortFunc(t.ranked, func(i, j int) int {
		a, b := &t.Strata[i], &t.Strata[j]
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Name, b.Name))
	})
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

// open returns the epoch for a session that enters at start: the newest one
// while it is open. Receive times rise but for a clock set back or groups that
// overtake one another: a session whose epoch is closed already joins the one
// that is not, since a closed epoch's at-risk counts are frozen.
func (st *Stratum) open(start int64) *Epoch {
	if n := len(st.Open); n > 0 {
		last := &st.Open[n-1]
		if !last.Closed {
			return last
		}
		start = max(start, last.Start+1) // all are closed: an epoch of its own after them
	}
	st.Open = append(st.Open, Epoch{Start: start})
	return &st.Open[len(st.Open)-1]
}

// What a cell of n sessions tells is less by a part of about 1/n than in a large
// one: a share that is known of few sessions leaves little to compare. So an
// epoch stays open while it has fewer sessions than a thinness-th part of all
// that came in its stratum, at least thinFirst and at most thinLast, but not
// longer than thinLongest. What is found waits for its end, by at most that part
// of the sessions that are there. A customer's evidence must outweigh how many
// customers there are: of one of 200 two cells suffice in which all of one arm
// fails if they have thinCustomer sessions, for nearly all ways in which these fall
// to the arms. Of cells of 8 it takes three, or five.
const (
	thinness     = 8
	thinFirst    = 8
	thinCustomer = 14
	thinLast     = 64
	thinLongest  = 5 * 60_000 // ms
)

// thin reports whether an epoch stays open at the beginning of another, for want
// of as many sessions as are enough, or of the first of them. It looks
// at how many sessions there are, and neither at their arms nor at what failed:
// given when sessions came, each is the canary's by the same chance, so that the
// end of an epoch says nothing of who fails. That holds while the planned weight
// does; settled is when a change of it had reached the clients.
func (st *Stratum) thin(ep *Epoch, at moment, first int64) bool {
	enough := min(max((st.Sessions[0]+st.Sessions[1])/thinness, first), thinLast)
	return int64(ep.Entered[0]+ep.Entered[1]) < enough && at.current-ep.Start < thinLongest && ep.Start >= at.settled
}

// find returns the index of an epoch that still has at-risk sessions.
func (st *Stratum) find(epoch int64) (int, bool) {
	return slices.BinarySearchFunc(st.Open, epoch, func(ep Epoch, start int64) int { return cmp.Compare(ep.Start, start) })
}

// fail counts a failure.
func (st *Stratum) fail(epoch int64, m session.Metric, a int, network string) {
	st.Failures[m][a]++
	if i, ok := st.find(epoch); ok {
		ep := &st.Open[i]
		ep.Pending[m][a]++
		ep.By = append(ep.By, Mark{m, uint8(a), network})
	}
}

// lose counts a loss.
func (st *Stratum) lose(epoch int64, l session.Loss, a int) {
	st.Losses[l][a]++
	i, ok := st.find(epoch)
	if !ok {
		return
	}
	if st.Open[i].Lost == nil {
		st.Open[i].Lost = &EpochLosses{}
	}
	st.Open[i].Lost.Pending[l][a]++
}

// moment is when evidence is scored, in Unix ms.
type moment struct {
	current int64 // the epoch that has begun
	settled int64 // since when the planned weight is what it is
	forget  int64 // sessions of older epochs are no longer known
}

// score closes epochs that began before the current one, but for a thin one, and
// scores what is pending in closed ones. Epochs older than those that are known
// are dropped. Of each of the networks, which may be nil, it is
// kept what leaving it out would do to this stratum, the k-th one.
func (st *Stratum) score(g *evalue.Grid, at moment, first int64, networks *ledger, k int) {
	drop := 0
	for i := range st.Open {
		ep := &st.Open[i]
		if ep.Start >= at.current || !ep.Closed && st.thin(ep, at, first) {
			break
		}
		ep.close(networks)
		for m := range session.Metrics {
			x := ep.Pending[m]
			if x[0]+x[1] == 0 {
				continue
			}
			if networks != nil {
				ep.apart(g, m, networks, k)
			}
			addBatch(g, &st.Marks[m], x, ep.AtRisk[m])
			ep.AtRisk[m][0] -= x[0]
			ep.AtRisk[m][1] -= x[1]
			ep.Pending[m] = [2]int32{}
		}
		ep.By = nil
		if ep.Lost != nil {
			st.scoreLosses(g, ep)
		}
		if ep.Start < at.forget {
			drop = i + 1
		}
	}
	st.Open = slices.Delete(st.Open, 0, drop)
}

// scoreLosses scores the losses that are pending in an epoch.
func (st *Stratum) scoreLosses(g *evalue.Grid, ep *Epoch) {
	for l := range session.Losses {
		x, scored := ep.Lost.Pending[l], &ep.Lost.Scored[l]
		if x[0]+x[1] == 0 {
			continue
		}
		addBatch(g, &st.Lost[l], x, [2]int32{ep.Entered[0] - scored[0], ep.Entered[1] - scored[1]})
		scored[0] += x[0]
		scored[1] += x[1]
		ep.Lost.Pending[l] = [2]int32{}
	}
}

// addBatch is [evalue.Grid.AddBatch] of counts by arm.
func addBatch(g *evalue.Grid, m *evalue.Marks, failures, atRisk [2]int32) {
	g.AddBatch(m, int64(failures[1]), int64(failures[0]), int64(atRisk[1]), int64(atRisk[0]))
}

// apart works out what the pending failures of a metric would say without each
// network: without a heavy one as if its sessions had not come, without another as
// if they had not failed.
func (ep *Epoch) apart(g *evalue.Grid, m session.Metric, networks *ledger, k int) {
	type part struct {
		failures [2]int32
		crowd    *Crowd // of a heavy one
	}
	by := map[string]*part{}
	var order []string
	see := func(network string) *part {
		if by[network] == nil {
			by[network] = &part{}
			order = append(order, network)
		}
		return by[network]
	}
	for i := range ep.Crowds {
		if c := &ep.Crowds[i]; c.AtRisk[m] != [2]int32{} {
			see(c.Network).crowd = c
		}
	}
	for _, mark := range ep.By {
		if mark.Metric == m {
			see(mark.Network).failures[mark.Arm]++
		}
	}
	x := ep.Pending[m]
	with := g.NewMarks()
	addBatch(g, &with, x, ep.AtRisk[m])
	for _, network := range order {
		p := by[network]
		left, atRisk := [2]int32{x[0] - p.failures[0], x[1] - p.failures[1]}, ep.AtRisk[m]
		if c := p.crowd; c != nil {
			for arm := range atRisk {
				// A user may fail in another network than that of their first session.
				atRisk[arm] = max(atRisk[arm]-c.AtRisk[m][arm], left[arm])
				c.AtRisk[m][arm] = max(c.AtRisk[m][arm]-p.failures[arm], 0)
			}
		}
		if keeper := networks.keeper(network, p.crowd != nil); keeper != nil {
			without := g.NewMarks()
			addBatch(g, &without, left, atRisk)
			keeper.remove(m, k, without, with)
		}
	}
}
