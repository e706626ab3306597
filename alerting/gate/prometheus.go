package gate

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"serin.dev/serin/analysis/verdict"
)

// Metric is the series that Prometheus's dialect serves: 1 for promote, 0 for
// hold, -1 for rollback.
const Metric = "serin_verdict"

// querySyntax is what is understood of PromQL: the series, with equality
// matchers of which only the stage's is needed, since a gate is bound to its
// rollout; and a number by itself, by which Flagger and others ask whether the server is there.
var (
	querySyntax = regexp.MustCompile(`^\s*(?:(` + Metric + `)\s*(?:\{([^{}]*)\})?|vector\(\s*(-?[0-9]+(?:\.[0-9]+)?)\s*\))\s*$`)
	stageSyntax = regexp.MustCompile(`(?:^|,)\s*stage\s*=\s*"([^"]*)"`)
)

// Query is a query that is understood.
type Query struct {
	Stage  *int   // that is asked about; nil: the one under way
	number string // of vector(N); empty: the series is asked for
}

// ParseQuery reads a query. What is not of the series or vector(N) is an error,
// which the caller answers as [PrometheusError].
func ParseQuery(text string) (Query, error) {
	m := querySyntax.FindStringSubmatch(text)
	if m == nil {
		return Query{}, fmt.Errorf("query: %q: want %s, with or without labels, or vector(N)", text, Metric)
	}
	q := Query{number: m[3]}
	if stage := stageSyntax.FindStringSubmatch(m[2]); stage != nil {
		n, err := strconv.Atoi(stage[1])
		if err != nil || n < 0 {
			return Query{}, fmt.Errorf("query: stage=%q: want the number of a stage, from 0", stage[1])
		}
		q.Stage = &n
	}
	return q, nil
}

// Prometheus answers an instant query at a time. There is always exactly one
// sample, and never NaN: an empty vector and NaN are failures to those who ask.
func Prometheus(s verdict.Standing, q Query, at time.Time) ([]byte, error) {
	labels := map[string]string{}
	value := q.number
	if value == "" {
		labels["__name__"] = Metric
		value = strconv.Itoa(Value(s))
		if v := s.Verdict; v != nil {
			labels["rollout"], labels["app"] = v.Rollout, v.App
		}
	}
	type sample struct {
		Metric map[string]string `json:"metric"`
		Value  [2]any            `json:"value"` // Unix seconds, and the value as text
	}
	var body struct {
		Status string `json:"status"`
		Data   struct {
			ResultType string   `json:"resultType"`
			Result     []sample `json:"result"`
		} `json:"data"`
	}
	body.Status, body.Data.ResultType = "success", "vector"
	body.Data.Result = []sample{{labels, [2]any{float64(at.UnixMilli()) / 1000, value}}}
	return json.Marshal(body)
}

// Value returns the standing as a number: 1, 0 or -1.
func Value(s verdict.Standing) int {
	switch s.Decision() {
	case verdict.Promote:
		return 1
	case verdict.Rollback:
		return -1
	}
	return 0
}

// PrometheusError is how Prometheus tells of a query that it cannot read, with
// status 400.
func PrometheusError(err error) []byte {
	b, jsonErr := json.Marshal(map[string]string{"status": "error", "errorType": "bad_data", "error": err.Error()})
	if jsonErr != nil {
		panic("BUG: two texts that are not JSON: " + jsonErr.Error())
	}
	return b
}
