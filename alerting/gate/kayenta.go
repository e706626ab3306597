package gate

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"serin.dev/serin/analysis/verdict"
)

// The parts of Kayenta's REST that Spinnaker's Orca and Argo Rollouts call
// (spinnaker/orca: orca-kayenta KayentaService.kt; argo-rollouts v1.10.0:
// metricproviders/kayenta).
type (
	// KayentaConfig is an entry of GET /canaryConfig.
	KayentaConfig struct {
		ID                  string   `json:"id"`
		Name                string   `json:"name"`
		UpdatedTimestamp    int64    `json:"updatedTimestamp"`
		UpdatedTimestampISO string   `json:"updatedTimestampIso"`
		Applications        []string `json:"applications"`
	}
	// KayentaThresholds are the scores between which a canary is neither good
	// nor bad.
	KayentaThresholds struct {
		Pass     float64 `json:"pass"`
		Marginal float64 `json:"marginal"`
	}
	// KayentaRequest is the body of POST /canary/{config}, as far as it is read.
	KayentaRequest struct {
		Thresholds KayentaThresholds       `json:"thresholds"`
		Scopes     map[string]kayentaScope `json:"scopes"`
	}
	kayentaScope struct {
		Experiment struct {
			End instant `json:"end"`
		} `json:"experimentScope"`
	}
	// KayentaExecution is a canary analysis that was asked for. All that is to be known of
	// it is in its name, so that none is kept and any node can answer.
	KayentaExecution struct {
		Stage    *int  `json:"s,omitempty"` // that was asked for; nil: the one under way
		Pass     int   `json:"p"`
		Marginal int   `json:"m"`
		Began    int64 `json:"b"` // Unix ms
		End      int64 `json:"e"` // Unix ms, of the time in which the analysis is to be done
	}
)

// KayentaConfigs returns the configurations of a rollout: one named as the
// rollout, for the stage under way, and one for each of its stages. Argo
// Rollouts and Orca find them by name.
func KayentaConfigs(rollout, app string, stages int, updated time.Time) []KayentaConfig {
	var all []KayentaConfig
	add := func(name string) {
		all = append(all, KayentaConfig{name, name, updated.UnixMilli(), updated.UTC().Format(time.RFC3339Nano), []string{app}})
	}
	add(rollout)
	for i := range stages {
		add(rollout + stageSuffix + strconv.Itoa(i))
	}
	return all
}

const stageSuffix = "-stage-"

// NewKayentaExecution checks a request on a configuration of a rollout.
//
// Orca fails a canary whose score is at the marginal threshold and Argo Rollouts calls it
// inconclusive; so a score never lies on a threshold, and thresholds that leave no
// room for that are refused: 1 <= marginal, marginal + 2 <= pass <= 99.
func NewKayentaExecution(rollout, config string, r KayentaRequest, now time.Time) (KayentaExecution, error) {
	var faults []error
	x := KayentaExecution{Began: now.UnixMilli(), End: now.UnixMilli()}
	switch stage, ok := strings.CutPrefix(config, rollout+stageSuffix); {
	case config == rollout:
	case ok:
		n, err := strconv.Atoi(stage)
		if err != nil || n < 0 {
			faults = append(faults, fmt.Errorf("canaryConfigId: %q: want a stage's number after %s%s", config, rollout, stageSuffix))
		}
		x.Stage = &n
	default:
		faults = append(faults, fmt.Errorf("canaryConfigId: %q: want %s or %s%sN", config, rollout, rollout, stageSuffix))
	}
	t := r.Thresholds
	whole := func(v float64) bool { return v == math.Trunc(v) && math.Abs(v) < 1e6 }
	if !whole(t.Marginal) || t.Marginal < 1 {
		faults = append(faults, fmt.Errorf("thresholds.marginal: %v: want a whole number of 1 or more: a rollback scores 0", t.Marginal))
	}
	if !whole(t.Pass) || t.Pass > 99 || t.Pass < t.Marginal+2 {
		faults = append(faults, fmt.Errorf("thresholds.pass: %v: want a whole number from 2 above marginal to 99: a promote scores 100, and a hold between the two", t.Pass))
	}
	for _, s := range r.Scopes {
		x.End = max(x.End, s.Experiment.End.UnixMilli())
	}
	x.Pass, x.Marginal = int(t.Pass), int(t.Marginal)
	return x, errors.Join(faults...)
}

// ID returns the execution's name.
func (x KayentaExecution) ID() string {
	b, err := json.Marshal(x)
	if err != nil {
		panic("BUG: five numbers that are not JSON: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// ParseKayentaExecution reads an execution's name.
func ParseKayentaExecution(id string) (KayentaExecution, error) {
	var x KayentaExecution
	b, err := base64.RawURLEncoding.DecodeString(id)
	if err == nil {
		err = json.Unmarshal(b, &x)
	}
	if err != nil || x.Marginal < 1 || x.Pass < x.Marginal+2 || x.Pass > 99 || x.Stage != nil && *x.Stage < 0 {
		return x, fmt.Errorf("canaryExecutionId: %q: want one that POST /canary/CONFIG answered", id)
	}
	return x, nil
}

// The classifications of Kayenta's score.
const (
	kayentaPass     = "Pass"
	kayentaMarginal = "Marginal"
	kayentaFail     = "Fail"
)

// KayentaResult is the answer to GET /canary/{execution}.
type KayentaResult struct {
	ExecutionID string             `json:"pipelineId"`
	Application string             `json:"application"`
	Status      string             `json:"status"` // running or succeeded
	Complete    bool               `json:"complete"`
	Result      *kayentaResultBody `json:"result,omitempty"`
	BuildTime   string             `json:"buildTimeIso"`
	StartTime   string             `json:"startTimeIso"`
	EndTime     string             `json:"endTimeIso,omitempty"`
}

type kayentaResultBody struct {
	Application string             `json:"application"`
	JudgeResult kayentaJudgeResult `json:"judgeResult"`
	Duration    string             `json:"canaryDuration"`
}

type kayentaJudgeResult struct {
	JudgeName   string          `json:"judgeName"`
	Results     []kayentaMetric `json:"results"`
	GroupScores []struct{}      `json:"groupScores"`
	Score       kayentaScore    `json:"score"`
}

type kayentaMetric struct {
	Name               string         `json:"name"`
	ID                 string         `json:"id"`
	Tags               map[string]any `json:"tags"`
	Groups             []string       `json:"groups"`
	Classification     string         `json:"classification"`
	ExperimentMetadata kayentaStats   `json:"experimentMetadata"`
	ControlMetadata    kayentaStats   `json:"controlMetadata"`
	ResultMetadata     map[string]any `json:"resultMetadata"`
}

type kayentaStats struct {
	Stats struct {
		Count int64 `json:"count"` // sessions
	} `json:"stats"`
}

type kayentaScore struct {
	Score          int    `json:"score"`
	Classification string `json:"classification"`
	Reason         string `json:"classificationReason"`
}

// Kayenta returns what an execution has come to: a promote scores 100 and a
// rollback 0, at once; anything else keeps it running until its end, and then
// scores strictly between the thresholds.
func Kayenta(x KayentaExecution, s verdict.Standing, now time.Time) KayentaResult {
	iso := func(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339Nano) }
	res := KayentaResult{ExecutionID: x.ID(), Status: "running", BuildTime: iso(x.Began), StartTime: iso(x.Began)}
	if s.Verdict != nil {
		res.Application = s.Verdict.App
	}
	score := kayentaScore{Reason: s.Sentence()}
	switch s.Decision() {
	case verdict.Promote:
		score.Score, score.Classification = 100, kayentaPass
	case verdict.Rollback:
		score.Score, score.Classification = 0, kayentaFail
	default:
		if now.UnixMilli() < x.End {
			return res
		}
		score.Score, score.Classification = (x.Marginal+x.Pass)/2, kayentaMarginal
	}
	res.Status, res.Complete, res.EndTime = "succeeded", true, iso(now.UnixMilli())
	body := &kayentaResultBody{Application: res.Application, Duration: isoDuration(now.Sub(time.UnixMilli(x.Began)))}
	body.JudgeResult = kayentaJudgeResult{JudgeName: "serin", Results: []kayentaMetric{}, GroupScores: []struct{}{}, Score: score}
	if s.Verdict != nil {
		for _, f := range s.Verdict.Findings {
			m := kayentaMetric{Name: f.Guardrail, ID: f.Guardrail, Tags: map[string]any{}, Groups: []string{"serin"}, Classification: kayentaPass, ResultMetadata: map[string]any{}}
			if f.Blamed {
				m.Classification = "High"
			}
			m.ExperimentMetadata.Stats.Count, m.ControlMetadata.Stats.Count = f.Sessions.Canary, f.Sessions.Baseline
			body.JudgeResult.Results = append(body.JudgeResult.Results, m)
		}
	}
	res.Result = body
	return res
}

// isoDuration writes whole seconds as ISO 8601 does.
func isoDuration(d time.Duration) string {
	return fmt.Sprintf("PT%dS", max(int64(d/time.Second), 0))
}
