package gate

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// judgeBody is what Kayenta sends: more than is used, NaN as text.
func judgeBody(weights, settings string, pass, marginal float64, pairs ...string) string {
	return fmt.Sprintf(`{"canaryConfig":{"name":"c","configVersion":"1","judge":{"name":"RemoteJudge-v1.0","judgeConfigurations":{}},
 "metrics":[{"name":"latency","query":{"type":"x"},"groups":["time"],"analysisConfigurations":{"canary":%[2]s},"scopeName":"default"},
            {"name":"errors","query":{},"groups":["failures"],"analysisConfigurations":{"canary":{"direction":"increase"}}}],
 "classifier":{"groupWeights":%[1]s}},"scoreThresholds":{"pass":%[3]v,"marginal":%[4]v},"metricSetPairList":[%[5]s]}`, weights, settings, pass, marginal, strings.Join(pairs, ","))
}

func pair(name, control, experiment string) string {
	return fmt.Sprintf(`{"name":%q,"id":"1","tags":{},"values":{"control":[%s],"experiment":[%s]},"scopes":{},"attributes":{}}`, name, control, experiment)
}

func series(n int, at float64) string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprint(at+float64(i%7)))
	}
	return strings.Join(out, ",")
}

func TestRemoteJudge(t *testing.T) {
	same, worse := pair("latency", series(50, 100), series(50, 100)), pair("latency", series(50, 100), series(50, 150)+`,"NaN"`)
	good, none := pair("errors", series(50, 3), series(50, 3)), pair("errors", "", "")
	for name, c := range map[string]struct {
		body    string
		score   float64
		label   string
		reasons string
	}{
		"both pass":                  {judgeBody(`{}`, `{}`, 90, 50, same, good), 100, "Pass", ""},
		"one of two groups":          {judgeBody(`{}`, `{"direction":"increase"}`, 90, 40, worse, good), 50, "Marginal", ""},
		"a score on the threshold":   {judgeBody(`{}`, `{"direction":"increase"}`, 90, 50, worse, good), 49, "Fail", ""},
		"weights":                    {judgeBody(`{"time":20}`, `{}`, 90, 50, worse, good), 80, "Marginal", ""},
		"the direction matters":      {judgeBody(`{}`, `{"direction":"decrease"}`, 90, 50, worse, good), 100, "Pass", ""},
		"critical":                   {judgeBody(`{}`, `{"critical":true}`, 90, 50, worse, good), 0, "Fail", "critical metric latency"},
		"muted":                      {judgeBody(`{}`, `{"muted":true}`, 90, 50, worse, good), 100, "Pass", ""},
		"an effect that is allowed":  {judgeBody(`{}`, `{"effectSize":{"allowedIncrease":2.0}}`, 90, 50, worse, good), 100, "Pass", ""},
		"half of them without data":  {judgeBody(`{}`, `{}`, 90, 50, same, none), 0, "Fail", "have no data"},
		"data that must be there":    {judgeBody(`{}`, `{"mustHaveData":true}`, 90, 40, pair("latency", "", ""), good), 50, "Marginal", ""},
		"no group of it, no weights": {judgeBody(`{"other":100}`, `{}`, 90, 50, same, good), 0, "Fail", ""},
	} {
		r, err := ParseJudgeRequest([]byte(c.body))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		res, err := Judge(r)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if res.Score.Score != c.score || res.Score.Label != c.label || !strings.Contains(res.Score.Reason, c.reasons) {
			t.Errorf("%s: %+v, want %v %s", name, res.Score, c.score, c.label)
		}
		raw, err := json.Marshal(res)
		if err != nil || !strings.Contains(string(raw), `"controlMetadata":{"stats":{"count":`) {
			t.Errorf("%s: %s, %v", name, raw, err)
		}
	}
}

func TestRemoteJudgeRefuses(t *testing.T) {
	for want, body := range map[string]string{
		`"other": want the name of a metric`: judgeBody(`{}`, `{}`, 90, 50, pair("other", "1", "1")),
		"want 0 <= marginal < pass":          judgeBody(`{}`, `{}`, 50, 50, pair("errors", "1", "1")),
		"want at least one metric":           judgeBody(`{}`, `{}`, 90, 50),
		"outliers.strategy":                  judgeBody(`{}`, `{"outliers":{"strategy":"remove"}}`, 90, 50, pair("latency", "1", "1")),
		"increase, decrease or either":       judgeBody(`{}`, `{"direction":"up"}`, 90, 50, pair("latency", "1", "1")),
		`"NaN"`:                              judgeBody(`{}`, `{}`, 90, 50, pair("latency", `"x"`, "1")),
	} {
		r, err := ParseJudgeRequest([]byte(body))
		if err == nil {
			_, err = Judge(r)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func FuzzRemoteJudge(f *testing.F) {
	f.Add([]byte(judgeBody(`{"time":20}`, `{"critical":true}`, 90, 50, pair("latency", "1,2,3", `4,"NaN",6`))))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := ParseJudgeRequest(body)
		if err != nil || len(body) > 4096 {
			return
		}
		if res, err := Judge(r); err == nil {
			if _, err := json.Marshal(res); err != nil {
				t.Fatal(err)
			}
		}
	})
}
