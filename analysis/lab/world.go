package lab

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"serin.dev/serin/analysis/session"
)

// world is what happens to a rollout. Without harm both arms' sessions fail
// alike in it, given their stratum and the time of their start.
type world struct {
	name     string
	about    string
	cells    int
	cell     int64   // length of a cell, ms
	sessions float64 // mean number per cell

	// stages are the planned shares of the canary, each for as long as the next.
	stages []float64
	// tilt is by how much the riskier strata get the canary sooner, as a
	// logarithm; negative: the safer ones.
	tilt float64
	// day is the swing of the log odds of failing over the rollout, and of the
	// mix of strata.
	day float64
	// users is how many users share the sessions; 0: each session has its own.
	users int
	delay func(rng *rand.Rand) int64 // from a failure until it is reported, ms; nil: at once
	// copied is the probability that a beacon is sent again, of the baseline and
	// of the canary.
	copied [2]float64
	// rate, if not 0, is the failure probability of errors in a world of one
	// stratum in which nothing else fails.
	rate float64
	// burst is the probability of a cell with ten times the sessions, in which
	// both arms fail four times as often.
	burst float64
}

const (
	second = int64(1000)
	minute = 60 * second
	hour   = 60 * minute
)

// The strata: device classes, their shares of the sessions and their log odds
// of failing beside the middle one's.
var (
	strata   = []string{"desktop", "mobile", "tablet"}
	mixture  = []float64{0.5, 0.35, 0.15}
	risk     = []float64{-0.5, 0, 0.9}
	baseRate = [session.Metrics]float64{
		session.Errors: 0.03, session.LCP: 0.12, session.INP: 0.08,
		session.CLS: 0.06, session.Requests: 0.04, session.Telemetry: 0.02,
	}
)

var worlds = []world{
	{name: "plain", about: "one stage, nothing changes", stages: []float64{0.2}},
	{name: "ramp", about: "the canary's share rises from 2 % to half", stages: []float64{0.02, 0.05, 0.1, 0.25, 0.5}},
	{name: "riskier-first", about: "a ramp that reaches the devices that fail more first", stages: []float64{0.05, 0.1, 0.25, 0.5}, tilt: 1.5},
	{name: "safer-first", about: "a ramp that reaches the devices that fail less first", stages: []float64{0.05, 0.1, 0.25, 0.5}, tilt: -1.5},
	{name: "daily", about: "a day in which failures and the mix of devices swing, and the share rises", stages: []float64{0.05, 0.2, 0.5}, cells: 96, cell: 15 * minute, day: 1},
	{name: "clustered", about: "users with many sessions, some of whom fail far more than others, on one arm each", stages: []float64{0.2}, users: 800},
	{name: "late", about: "failures are reported at the next launch, after 3 h in the median", stages: []float64{0.05, 0.2, 0.5}, cells: 96, cell: 15 * minute, delay: atNextLaunch},
	{name: "next-morning", about: "half of the failures are reported within minutes, half after a night", stages: []float64{0.05, 0.2, 0.5}, cells: 96, cell: 15 * minute, delay: nextMorning},
	{name: "duplicates", about: "beacons are sent again, on the canary four times as often", stages: []float64{0.2}, copied: [2]float64{0.1, 0.4}},
	{name: "bursty", about: "crowds that come at once, in which everything fails more", stages: []float64{0.05, 0.2, 0.5}, burst: 0.05},
}

// The size of worlds that do not say another: 96 cells of a minute.
const (
	usualCells    = 96
	usualSessions = 60
)

// WorldNames returns the names of the worlds of healthy rollouts, in order.
func WorldNames() (names []string) {
	for _, w := range worlds {
		names = append(names, w.name)
	}
	return names
}

// AboutWorld says in a few words what happens in a world; empty for none.
func AboutWorld(name string) string {
	w, err := findWorld(name)
	if err != nil {
		return ""
	}
	return w.about
}

func findWorld(name string) (world, error) {
	i := slices.IndexFunc(worlds, func(w world) bool { return w.name == name })
	if i < 0 {
		return world{}, fmt.Errorf("world: %q: want one of %v", name, WorldNames())
	}
	w := worlds[i]
	if w.cells == 0 {
		w.cells, w.cell = usualCells, minute
	}
	if w.sessions == 0 {
		w.sessions = usualSessions
	}
	return w, nil
}

// atNextLaunch is log-normal with a median of 3 h and a sigma of 1.
func atNextLaunch(rng *rand.Rand) int64 {
	return int64(3 * float64(hour) * math.Exp(rng.NormFloat64()))
}

// nextMorning is within 5 minutes, or after 8 to 14 hours.
func nextMorning(rng *rand.Rand) int64 {
	if rng.IntN(2) == 0 {
		return rng.Int64N(5 * minute)
	}
	return 8*hour + rng.Int64N(6*hour)
}

// weight returns the planned share of the canary in a cell, and the stage.
func (w *world) weight(cell int) (share float64, stage int) {
	stage = min(cell*len(w.stages)/w.cells, len(w.stages)-1)
	return w.stages[stage], stage
}

// climate is what holds for all sessions of one cell.
type climate struct {
	mix   []float64 // cumulated shares of the strata
	share []float64 // of the canary, by stratum
	odds  [][2]odds // of failing, by stratum and arm
	rate  float64   // sessions per ms
}

// odds of failing, by metric.
type odds [session.Metrics]float64

// climate returns that of a cell in which the canary has a share. ratio multiplies the
// canary's odds of failing metric harmed.
func (w *world) climate(cell int, weight float64, rng *rand.Rand, harmed session.Metric, ratio float64) climate {
	x := float64(cell) / float64(w.cells)
	swing := w.day * math.Sin(2*math.Pi*x)
	c := climate{rate: w.sessions / float64(w.cell)}
	if w.rate > 0 {
		o := w.rate / (1 - w.rate)
		c.mix, c.share, c.odds = []float64{1}, []float64{weight}, make([][2]odds, 1)
		c.odds[0][0][session.Errors], c.odds[0][1][session.Errors] = o, o*ratio
		return c
	}
	if w.burst > 0 && rng.Float64() < w.burst {
		c.rate *= 10
		swing += math.Log(4)
	}
	total, mean := 0.0, 0.0
	shares := make([]float64, len(strata))
	reach := make([]float64, len(strata))
	for s := range strata {
		shares[s] = mixture[s] * math.Exp(w.day*math.Cos(2*math.Pi*x)*(float64(s)-1)/2)
		total += shares[s]
	}
	for s := range strata {
		reach[s] = math.Exp(w.tilt * (1 - x) * (float64(s) - 1))
		mean += shares[s] / total * reach[s]
	}
	at := 0.0
	for s := range strata {
		at += shares[s] / total
		c.mix = append(c.mix, at)
		c.share = append(c.share, min(weight*reach[s]/mean, 0.95))
		var both [2]odds
		for m := range session.Metrics {
			o := baseRate[m] / (1 - baseRate[m]) * math.Exp(risk[s]+swing)
			both[0][m] = o
			if m == harmed {
				o *= ratio
			}
			both[1][m] = o
		}
		c.odds = append(c.odds, both)
	}
	return c
}

// user is one of those who share the sessions of a world.
type user struct {
	stratum uint8
	canary  bool
	frailty float64 // factor of the odds of failing
	until   float64 // cumulated share of the sessions
}

func (w *world) drawUsers(rng *rand.Rand) []user {
	us := make([]user, w.users)
	total := 0.0
	for i := range us {
		u := &us[i]
		x := rng.Float64()
		for int(u.stratum) < len(strata)-1 && x >= mixture[u.stratum] {
			x -= mixture[u.stratum]
			u.stratum++
		}
		u.canary = rng.Float64() < w.stages[0]
		u.frailty = math.Exp(rng.NormFloat64())
		total += math.Exp(rng.NormFloat64())
		u.until = total
	}
	for i := range us {
		us[i].until /= total
	}
	return us
}

// visit is the plan of one session.
type visit struct {
	number  int32
	user    int32 // -1: its own
	network int32 // of the client; -1: not known
	tenant  int32 // the customer within the app; -1: not named
	at      int64 // when its first beacon arrives, ms
	seen    int64 // and its second
	stratum uint8
	canary  bool
	failed  uint16             // bits by metric
	lost    bool               // nothing of it ever arrives
	place   session.Enrollment // by the engine outcomes
}

func (v *visit) has(m session.Metric) bool { return v.failed&(1<<m) != 0 }
