package slo

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/internal/store/batch"
)

// Spending is what was spent of an objective's budget in its window, by cohort and
// hour: what [Spending.Who] needs, apart from the book.
type Spending struct {
	Tenant, SLO, Unit string
	From, To          time.Time // whole quarters of an hour
	Budget            float64   // share of units that may be bad
	Restated          verdict.Restated
	Hours             []Hour
}

// Hour counts one cohort in one hour. Cohorts are in the order in which they were
// first seen.
type Hour struct {
	Cohort                 int
	Release, Arms, Stratum string
	At                     int32 // start, minutes
	Total, Bad             int64
}

// Spending returns what was spent from the start of the window that a question is
// in until its minute, both on whole quarters of an hour: the last one counts as
// far as it has come.
func (b *Book) Spending(tenant string, q Question) (Spending, error) {
	f, err := b.frame(q)
	if err != nil {
		return Spending{}, err
	}
	from, to := f.budget-mod(f.budget, quarter), f.to+mod(-f.to, quarter)
	s := Spending{Tenant: tenant, SLO: b.Objective.Name, Unit: b.Objective.Unit, Budget: b.Objective.Budget(), Restated: b.Restated,
		From: time.Unix(int64(from)*60, 0).UTC(), To: time.Unix(int64(to)*60, 0).UTC()}
	for i, c := range b.Cohorts {
		last := c.Units.upTo(from)
		for _, bs := range [...][]Bucket{c.Units.Coarse, c.Units.Fine} {
			for _, k := range bs[find(bs, from):find(bs, to)] {
				d := k.Until.minus(last)
				last = k.Until
				hour := k.At - mod(k.At, 60)
				if n := len(s.Hours); n > 0 && s.Hours[n-1].Cohort == i && s.Hours[n-1].At == hour {
					s.Hours[n-1].Total += d.Total
					s.Hours[n-1].Bad += d.Bad
				} else {
					s.Hours = append(s.Hours, Hour{i, c.Release, c.Arms, c.Stratum, hour, d.Total, d.Bad})
				}
			}
		}
	}
	return s, nil
}

// Who says who spent a budget.
type Who struct {
	Tenant   string           `json:"tenant"`
	SLO      string           `json:"slo"`
	Unit     string           `json:"unit"`
	From     time.Time        `json:"from"`
	To       time.Time        `json:"to"`
	Total    int64            `json:"total"`
	Bad      int64            `json:"bad"`
	Allowed  float64          `json:"allowed"` // bad units that the target allows
	Restated verdict.Restated `json:"restated"`
	Releases []Share          `json:"releases"` // most bad units first; totals and bad ones add up to those above
	Arms     []Share          `json:"arms"`     // of each change; a unit on several changes is in several, so that these do not add up
	Strata   []Share          `json:"strata"`   // these add up
}

// Share is the part of one release, arm or stratum.
type Share struct {
	Name  string        `json:"name"`
	Total int64         `json:"total"`
	Bad   int64         `json:"bad"`   // gross
	Spent verdict.Bound `json:"spent"` // Bad as a share of the budget; null: there is none
	// Excess is how many of Bad there are beyond what its units would have had at
	// the rate of the control that was served beside them: in the same hour, stratum
	// and arms of other changes. Lo and Hi are a 95 % interval for it over what could
	// have come of the same units; for the unit event it takes events as independent.
	// Null where nothing was comparable.
	Excess verdict.Bound `json:"excess"`
	Lo     verdict.Bound `json:"excess_lo"`
	Hi     verdict.Bound `json:"excess_hi"`
	// Compared is how many of Total had a control beside them; Excess speaks of those.
	Compared int64 `json:"compared"`
}

// Who attributes the spending.
func (s *Spending) Who() Who {
	w := Who{Tenant: s.Tenant, SLO: s.SLO, Unit: s.Unit, From: s.From, To: s.To, Restated: s.Restated}
	for _, h := range s.Hours {
		w.Total += h.Total
		w.Bad += h.Bad
	}
	w.Allowed = s.Budget * float64(w.Total)
	w.Releases = s.shares(w.Allowed, func(h *Hour) []string { return []string{h.Release} }, s.releases())
	w.Arms = s.shares(w.Allowed, func(h *Hour) (names []string) {
		if h.Arms == "" || h.Arms == Other {
			return []string{cmp.Or(h.Arms, "none")}
		}
		return strings.Split(h.Arms, ";")
	}, s.arms())
	w.Strata = s.shares(w.Allowed, func(h *Hour) []string { return []string{h.Stratum} }, nil)
	return w
}

// shares adds up the hours by name.
func (s *Spending) shares(allowed float64, names func(*Hour) []string, excess map[string]*excess) []Share {
	by := map[string]*Share{}
	for i := range s.Hours {
		for _, name := range names(&s.Hours[i]) {
			sh := by[name]
			if sh == nil {
				sh = &Share{Name: name, Excess: verdict.Unknown, Lo: verdict.Unknown, Hi: verdict.Unknown}
				by[name] = sh
			}
			sh.Total += s.Hours[i].Total
			sh.Bad += s.Hours[i].Bad
		}
	}
	out := make([]Share, 0, len(by))
	for _, name := range slices.Sorted(maps.Keys(by)) {
		sh := by[name]
		sh.Spent = verdict.Unknown
		if allowed > 0 {
			sh.Spent = verdict.Bound(float64(sh.Bad) / allowed)
		}
		if e := excess[name]; e != nil && e.compared > 0 {
			half := 1.959964 * math.Sqrt(e.variance)
			sh.Excess, sh.Lo, sh.Hi, sh.Compared = verdict.Bound(e.sum), verdict.Bound(e.sum-half), verdict.Bound(e.sum+half), e.compared
		}
		out = append(out, *sh)
	}
	slices.SortStableFunc(out, func(a, b Share) int { return cmp.Compare(b.Bad, a.Bad) })
	return out
}

// cell is what is alike but for what is compared.
type cell struct {
	at      int32
	stratum string
	rest    string // what else must be alike
}

type count struct{ n, k int64 }

// excess sums over cells the bad units beyond the control's rate.
type excess struct {
	sum, variance float64
	compared      int64
}

// add compares one cell. The estimate k - n K/N has the variance n pq + n^2 PQ/N,
// whose parts are estimated without bias by n/(n-1) times the plug-in; where there
// is but one unit, by the rates over all cells.
func (e *excess) add(c, control count, p, p0 float64) {
	n, big := float64(c.n), float64(control.n)
	rate := float64(control.k) / big
	e.sum += float64(c.k) - n*rate
	own, other := n*p*(1-p), n*n/big*p0*(1-p0)
	if c.n > 1 {
		own = float64(c.k) * float64(c.n-c.k) / (n - 1)
	}
	if control.n > 1 {
		other = n * n / big * rate * (1 - rate) * big / (big - 1)
	}
	e.variance += own + other
	e.compared += c.n
}

// compare sums the cells of one thing and of its controls, in an order of their
// own, so that the same spending gives the same bytes.
func compare(own, control map[cell]count) *excess {
	p, p0 := pooled(own), pooled(control)
	cells := slices.SortedFunc(maps.Keys(own), func(a, b cell) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.stratum, b.stratum), cmp.Compare(a.rest, b.rest))
	})
	e := &excess{}
	for _, at := range cells {
		if k := control[at]; own[at].n > 0 && k.n > 0 {
			e.add(own[at], k, p, p0)
		}
	}
	return e
}

// pooled returns the rate over all cells.
func pooled(of map[cell]count) float64 {
	var s count
	for _, c := range of {
		s.n += c.n
		s.k += c.k
	}
	if s.n == 0 {
		return 0
	}
	return float64(s.k) / float64(s.n)
}

func put(m map[cell]count, at cell, h *Hour) {
	c := m[at]
	c.n += h.Total
	c.k += h.Bad
	m[at] = c
}

// releases compares each release with the one that it replaces: of those seen
// before it the one with the most units in that hour.
func (s *Spending) releases() map[string]*excess {
	rank := map[string]int{}
	for i := range s.Hours {
		if h := &s.Hours[i]; h.Cohort < orLast(rank, h.Release) {
			rank[h.Release] = h.Cohort
		}
	}
	served := map[int32]map[string]int64{}
	for i := range s.Hours {
		h := &s.Hours[i]
		if served[h.At] == nil {
			served[h.At] = map[string]int64{}
		}
		served[h.At][h.Release] += h.Total
	}
	out := map[string]*excess{}
	for r := range rank {
		if r == Unknown || r == Other {
			continue // they are many, or none
		}
		incumbent := map[int32]string{}
		for at, by := range served {
			best := ""
			for other, n := range by {
				if rank[other] < rank[r] && n > 0 && other != Unknown && other != Other && (best == "" || n > by[best] || n == by[best] && other < best) {
					best = other
				}
			}
			incumbent[at] = best
		}
		own, control := map[cell]count{}, map[cell]count{}
		for i := range s.Hours {
			h := &s.Hours[i]
			at := cell{h.At, h.Stratum, withoutReleases(h.Arms)}
			switch {
			case h.Release == r:
				put(own, at, h)
			case h.Release == incumbent[h.At]:
				put(control, at, h)
			}
		}
		out[r] = compare(own, control)
	}
	return out
}

func orLast(rank map[string]int, name string) int {
	if r, ok := rank[name]; ok {
		return r
	}
	return math.MaxInt
}

// withoutReleases drops the arms of changes that are releases: a release is on
// another arm than the one that it replaces.
func withoutReleases(arms string) string {
	if !strings.Contains(arms, "release") {
		return arms
	}
	parts := slices.DeleteFunc(strings.Split(arms, ";"), func(a string) bool { return strings.HasPrefix(a, releaseChange) })
	return strings.Join(parts, ";")
}

const releaseChange = "release/"

// controls are the variants that a change is compared with.
var controls = []string{"baseline", "control", "off", "false"}

// arms compares each variant of a change with the change's control, at the same
// release (unless the change is one) and on the same arms of other changes.
func (s *Spending) arms() map[string]*excess {
	own, control := map[string]map[cell]count{}, map[string]map[cell]count{}
	at := func(m map[string]map[cell]count, name string) map[cell]count {
		if m[name] == nil {
			m[name] = map[cell]count{}
		}
		return m[name]
	}
	for i := range s.Hours {
		h := &s.Hours[i]
		if h.Arms == Other {
			continue
		}
		all := strings.Split(h.Arms, ";")
		for k, a := range batch.ParseArms(h.Arms) {
			rest := strings.Join(slices.Delete(slices.Clone(all), k, k+1), ";")
			if !strings.HasPrefix(a.Change, releaseChange) {
				rest = h.Release + ";" + rest
			}
			c := cell{h.At, h.Stratum, rest}
			if slices.Contains(controls, a.Variant) {
				put(at(control, a.Change), c, h)
			} else {
				put(at(own, all[k]), c, h)
			}
		}
	}
	out := map[string]*excess{}
	for name, cells := range own {
		change, _, _ := strings.Cut(name, "=")
		out[name] = compare(cells, control[batch.ParseArms(change + "=")[0].Change])
	}
	return out
}
