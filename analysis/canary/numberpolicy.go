package canary

import (
	"maps"
	"math"
	"slices"
	"strings"

	"serin.dev/serin/analysis/session"
	"serin.dev/serin/internal/event"
)

// numberWeight is the weight of a guardrail on values that names none.
const numberWeight = 0.1

// maxNumbers bounds the guardrails on values of a policy.
const maxNumbers = 16

// numbers returns the names of the policy's guardrails on values, sorted.
func (p *Policy) numbers() (names []string) {
	for _, name := range slices.Sorted(maps.Keys(p.Guardrails)) {
		if _, ok := session.ParseMetric(name); !ok {
			names = append(names, name)
		}
	}
	return names
}

// checkRate checks what only a share of sessions has, and fills in its evidence.
func (p *Policy) checkRate(c *checker, where string, g *Guardrail) {
	def, other := EvidenceCounts, EvidenceTwoSample
	if p.Allocation == AllocationFree && g.Unit != UnitUser && (g.Direction == DirectionIncrease || g.Direction == "") {
		def, other = other, def
	}
	choose(c, where+".evidence", &g.Evidence, def, other)
	if g.Evidence == EvidenceTwoSample {
		if g.Unit == UnitUser {
			c.want(where+".evidence", g.Evidence, "counts, where users are counted")
		}
		if g.Direction != DirectionIncrease {
			c.want(where+".evidence", g.Evidence, "counts, where the direction is %s", g.Direction)
		}
	} else if def == EvidenceCounts {
		g.Evidence = "" // as in rollouts that were recorded before there was another
	}
	for _, f := range []struct {
		name string
		set  bool
	}{{"kind", g.Kind != ""}, {"metric", g.Metric != ""}, {"per", g.Per != ""}, {"quantile", g.Quantile != 0}, {"bound", g.Bound != 0}, {"take", g.Take != ""}} {
		if f.set {
			c.want(where+"."+f.name, "set", "it absent: %v are shares of sessions; give a guardrail on values a name of its own", session.Names())
		}
	}
}

// checkNumber checks a guardrail on values, and fills in its defaults.
func checkNumber(c *checker, where, name string, g *Guardrail) {
	if g.Kind == "" && g.Metric == "" {
		c.want(where, name, "one of %v; or, on values, a kind and a metric", session.Names())
		return
	}
	if !nameRE.MatchString(name) {
		c.want(where, name, "1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit")
	}
	if !slices.Contains([]string{KindQuantile, KindMean, KindRatio}, g.Kind) {
		c.want(where+".kind", g.Kind, "%s, %s or %s", KindQuantile, KindMean, KindRatio)
	}
	checkMetric(c, where+".metric", g.Metric)
	if g.Kind == KindRatio {
		checkMetric(c, where+".per", g.Per)
		choose(c, where+".take", &g.Take, TakeSum)
		choose(c, where+".unit", &g.Unit, UnitUser, UnitSession)
	} else {
		if g.Per != "" {
			c.want(where+".per", g.Per, "it absent: only a ratio has one")
		}
		choose(c, where+".take", &g.Take, TakeFirst, TakeLast, TakeMax, TakeSum)
		choose(c, where+".unit", &g.Unit, UnitSession, UnitUser)
	}
	choose(c, where+".direction", &g.Direction, DirectionIncrease, DirectionDecrease, DirectionEither)
	switch {
	case g.Kind == KindQuantile:
		if !(g.Quantile > 0 && g.Quantile < 1) {
			c.want(where+".quantile", g.Quantile, "above 0, below 1")
		}
		if g.Margin == 0 {
			g.Margin = 0.1
		}
		if !(g.Margin <= 10) || shiftOf(g.Margin) < 1 {
			c.want(where+".margin", g.Margin, "a part of the value, 0.045 (a bucket's width) to 10")
		}
	case !(g.Margin > 0) || math.IsInf(g.Margin, 1):
		c.want(where+".margin", g.Margin, "above 0, in the unit of the %s", g.Kind)
	}
	if g.Quantile != 0 && g.Kind != KindQuantile {
		c.want(where+".quantile", g.Quantile, "it absent: only a quantile has one")
	}
	if g.Bound != 0 && (g.Kind != KindMean || !(g.Bound > 0) || math.IsInf(g.Bound, 1)) {
		c.want(where+".bound", g.Bound, "above 0, of a mean alone")
	}
	if g.Floor != 0 {
		c.want(where+".floor", g.Floor, "it absent: only shares of sessions have one")
	}
	if g.Evidence != "" {
		c.want(where+".evidence", g.Evidence, "it absent: only shares of sessions have a choice")
	}
	if g.Weight == 0 {
		g.Weight = numberWeight
	}
	if !(g.Weight > 0) || math.IsInf(g.Weight, 1) {
		c.want(where+".weight", g.Weight, "above 0")
	}
}

// checkMetric checks what names events: a kind, or KIND/NAME.
func checkMetric(c *checker, field, metric string) {
	kind, name, named := strings.Cut(metric, "/")
	k, ok := event.ParseKind([]byte(kind))
	switch {
	case !ok || named && name == "" || len(name) > event.MaxName:
		c.want(field, metric, "KIND or KIND/NAME of events, such as vital/LCP, metric/basket, start or view; kinds are %v", event.Kinds())
	case !named && (k == event.Vital || k == event.Metric):
		c.want(field, metric, "a name too, such as %s/NAME: values of different ones cannot be compared", kind)
	}
}
