package gate

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"serin.dev/serin/analysis/judge"
)

// The bodies of Kayenta's remote judge (spinnaker/kayenta: RemoteJudgeRequest,
// CanaryJudgeResult), as far as they are read: Kayenta fetches the values from wherever its
// metrics are, and asks what they say.
type (
	// JudgeRequest is the body of POST /judge.
	JudgeRequest struct {
		Config struct {
			Metrics    []judgeMetric `json:"metrics"`
			Classifier struct {
				GroupWeights map[string]float64 `json:"groupWeights"`
			} `json:"classifier"`
		} `json:"canaryConfig"`
		Thresholds KayentaThresholds `json:"scoreThresholds"`
		Pairs      []judgePair       `json:"metricSetPairList"`
	}
	judgeMetric struct {
		Name     string   `json:"name"`
		Groups   []string `json:"groups"`
		Analysis struct {
			Canary judgeSettings `json:"canary"`
		} `json:"analysisConfigurations"`
	}
	judgeSettings struct {
		Direction    string `json:"direction"`
		NaN          string `json:"nanStrategy"`
		Critical     bool   `json:"critical"`
		MustHaveData bool   `json:"mustHaveData"`
		Muted        bool   `json:"muted"`
		Outliers     struct {
			Strategy string `json:"strategy"`
		} `json:"outliers"`
		Effect struct {
			Measure          string   `json:"measure"`
			AllowedIncrease  *float64 `json:"allowedIncrease"`
			AllowedDecrease  *float64 `json:"allowedDecrease"`
			CriticalIncrease *float64 `json:"criticalIncrease"`
			CriticalDecrease *float64 `json:"criticalDecrease"`
		} `json:"effectSize"`
	}
	judgePair struct {
		Name   string              `json:"name"`
		ID     string              `json:"id"`
		Tags   map[string]any      `json:"tags"`
		Values map[string][]number `json:"values"` // control and experiment
	}
	// JudgeResult is the answer.
	JudgeResult struct {
		Judge   string       `json:"judgeName"`
		Results []judged     `json:"results"`
		Groups  []groupScore `json:"groupScores"`
		Score   scored       `json:"score"`
	}
	judged struct {
		Name       string         `json:"name"`
		ID         string         `json:"id"`
		Tags       map[string]any `json:"tags"`
		Groups     []string       `json:"groups"`
		Label      judge.Label    `json:"classification"`
		Reason     string         `json:"classificationReason,omitempty"`
		Critical   bool           `json:"critical"`
		Muted      bool           `json:"muted"`
		Experiment judgedStats    `json:"experimentMetadata"`
		Control    judgedStats    `json:"controlMetadata"`
		Metadata   map[string]any `json:"resultMetadata"`
	}
	judgedStats struct {
		Stats struct {
			Count int     `json:"count"`
			Mean  float64 `json:"mean"`
		} `json:"stats"`
	}
	groupScore struct {
		Name   string  `json:"name"`
		Score  float64 `json:"score"`
		Label  string  `json:"classification"`
		Reason string  `json:"classificationReason"`
	}
	scored struct {
		Score  float64 `json:"score"`
		Label  string  `json:"classification"`
		Reason string  `json:"classificationReason"`
	}
)

// number reads a number as Jackson writes it: NaN is text.
type number float64

// UnmarshalJSON reads a number, "NaN" or null.
func (n *number) UnmarshalJSON(b []byte) error {
	if s := string(b); s == `"NaN"` || s == "null" {
		*n = number(math.NaN())
		return nil
	}
	v, err := strconv.ParseFloat(string(b), 64)
	if err != nil {
		return fmt.Errorf("value %s: want a finite number or \"NaN\"", b)
	}
	*n = number(v)
	return nil
}

// ParseJudgeRequest reads a request of the remote judge.
func ParseJudgeRequest(body []byte) (r JudgeRequest, err error) {
	err = parseForeign(body, &r)
	return r, err
}

// settings returns the judge's settings for a metric.
func (m *judgeMetric) settings() (judge.Settings, error) {
	c := &m.Analysis.Canary
	effect := judge.MeanRatio
	if c.Effect.Measure == string(judge.CLES) {
		effect = judge.CLES
	}
	s := judge.Defaults(effect)
	s.Critical, s.MustHaveData = c.Critical, c.MustHaveData
	if c.Direction != "" {
		s.Direction = judge.Direction(c.Direction)
	}
	if c.NaN == string(judge.Replace) {
		s.NaN = judge.Replace
	}
	for _, f := range []struct {
		to   *float64
		from *float64
	}{{&s.AllowedIncrease, c.Effect.AllowedIncrease}, {&s.AllowedDecrease, c.Effect.AllowedDecrease}, {&s.CriticalIncrease, c.Effect.CriticalIncrease}, {&s.CriticalDecrease, c.Effect.CriticalDecrease}} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	if o := c.Outliers.Strategy; o != "" && o != "keep" && o != "none" {
		return s, fmt.Errorf("outliers.strategy: %q: want keep: values are not taken out for being large", o)
	}
	return s, s.Check()
}

// Judge judges the metrics of a request and scores them as Kayenta's own judge
// does (ScoringHelper, WeightedSumScorer), with one difference: a score that
// would lie on the marginal threshold is 1 below it, since Orca fails it there
// and Kayenta does not. All faults of the request are returned together.
func Judge(r JudgeRequest) (JudgeResult, error) {
	res := JudgeResult{Judge: "serin", Results: []judged{}, Groups: []groupScore{}}
	configs := map[string]*judgeMetric{}
	for i := range r.Config.Metrics {
		configs[r.Config.Metrics[i].Name] = &r.Config.Metrics[i]
	}
	var faults []error
	for _, p := range r.Pairs {
		m := configs[p.Name]
		if m == nil {
			faults = append(faults, fmt.Errorf("metricSetPairList: %q: want the name of a metric of canaryConfig", p.Name))
			continue
		}
		s, err := m.settings()
		var found judge.Result
		if err == nil {
			found, err = judge.Judge(floats(p.Values["experiment"]), floats(p.Values["control"]), s)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("metric %q: %w", p.Name, err))
			continue
		}
		one := judged{Name: p.Name, ID: p.ID, Tags: p.Tags, Groups: m.Groups, Label: found.Classification, Reason: found.Reason, Critical: found.Critical,
			Muted: m.Analysis.Canary.Muted, Metadata: map[string]any{}}
		if one.Tags == nil {
			one.Tags = map[string]any{}
		}
		if !math.IsNaN(found.Effect) {
			one.Metadata["ratio"] = found.Effect
		}
		one.Experiment, one.Control = statsOf(p.Values["experiment"]), statsOf(p.Values["control"])
		res.Results = append(res.Results, one)
	}
	if t := r.Thresholds; !(t.Marginal >= 0 && t.Pass > t.Marginal && t.Pass <= 100) {
		faults = append(faults, fmt.Errorf("scoreThresholds: pass %v, marginal %v: want 0 <= marginal < pass <= 100", t.Pass, t.Marginal))
	}
	if len(r.Pairs) == 0 {
		faults = append(faults, errors.New("metricSetPairList: empty: want at least one metric"))
	}
	if err := errors.Join(faults...); err != nil {
		return JudgeResult{}, err
	}
	res.score(r.Config.Classifier.GroupWeights, r.Thresholds)
	return res, nil
}

func floats(in []number) (out []float64) {
	for _, v := range in {
		out = append(out, float64(v))
	}
	return out
}

func statsOf(values []number) (s judgedStats) {
	for _, v := range values {
		if x := float64(v); !math.IsNaN(x) {
			s.Stats.Count++
			s.Stats.Mean += (x - s.Stats.Mean) / float64(s.Stats.Count)
		}
	}
	return s
}

// noDataLimit is the share of metrics without data from which on a canary fails.
const noDataLimit = 0.5

// score fills in the scores of the groups and of the whole. Muted metrics count
// nowhere.
func (r *JudgeResult) score(weights map[string]float64, t KayentaThresholds) {
	type tally struct{ pass, all int }
	groups := map[string]*tally{}
	loud, noData, reason := 0, 0, ""
	for _, m := range r.Results {
		if m.Muted {
			continue
		}
		loud++
		if m.Label == judge.Nodata {
			noData++
		}
		if m.Critical && m.Label != judge.Pass && reason == "" {
			reason = fmt.Sprintf("the critical metric %s failed: %s", m.Name, m.Reason)
		}
		for _, g := range m.Groups {
			if groups[g] == nil {
				groups[g] = &tally{}
			}
			if m.Label == judge.Pass {
				groups[g].pass++
			}
			if m.Label != judge.Nodata {
				groups[g].all++
			}
		}
	}
	if reason == "" && float64(noData) >= noDataLimit*float64(loud) && noData > 0 {
		reason = fmt.Sprintf("%d of %d metrics have no data", noData, loud)
	}
	given, missing := 0.0, 0
	for _, w := range weights {
		given += w
	}
	for g := range groups {
		if _, ok := weights[g]; !ok {
			missing++
		}
	}
	sum := 0.0
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		g := groups[name]
		shown, counted := 0.0, 100.0 // a group without data takes nothing away
		if g.all > 0 {
			shown = 100 * float64(g.pass) / float64(g.all)
			counted = shown
		}
		weight, ok := weights[name]
		if !ok {
			weight = (100 - given) / float64(missing)
		}
		sum += counted * weight / 100
		r.Groups = append(r.Groups, groupScore{Name: name, Score: shown})
	}
	s := scored{Score: math.Round(sum*100) / 100, Reason: reason}
	if reason != "" {
		s.Score = 0
	}
	if s.Score == t.Marginal && s.Score >= 1 {
		s.Score--
	}
	switch {
	case s.Score >= t.Pass:
		s.Label = kayentaPass
	case s.Score >= t.Marginal:
		s.Label = kayentaMarginal
	default:
		s.Label = kayentaFail
	}
	r.Score = s
}
