package actuate

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"serin.dev/serin/analysis/verdict"
)

// maxDescription is the longest description of a status that GitHub takes.
const maxDescription = 140

// github sets the status of the newest deployment of the canary's reference, or
// that of its commit, or a check run on it
// (https://docs.github.com/en/rest/deployments/statuses, commits/statuses, checks/runs).
func github(ctx context.Context, c *client, v *verdict.Verdict) error {
	c.header.Set("Accept", "application/vnd.github+json")
	c.header.Set("X-GitHub-Api-Version", "2022-11-28")
	c.header.Set("Authorization", "Bearer "+c.s.Token)
	repo, ref := "/repos/"+c.s.Repository, c.ref(v)
	name := "serin/" + v.Rollout
	if c.s.Report == "deployment" {
		query := url.Values{"ref": {ref}, "per_page": {"1"}}
		if c.s.Environment != "" {
			query.Set("environment", c.s.Environment)
		}
		var found []struct {
			ID int64 `json:"id"`
		}
		if err := c.call(ctx, http.MethodGet, repo+"/deployments?"+query.Encode(), nil, &found); err != nil {
			return err
		}
		if len(found) == 0 {
			return fmt.Errorf("no deployment of %s in environment %q", ref, c.s.Environment)
		}
		state := map[verdict.Decision]string{verdict.Promote: "success", verdict.Rollback: "failure"}[v.Decision]
		if state == "" {
			state = "in_progress"
		}
		return c.call(ctx, http.MethodPost, fmt.Sprintf("%s/deployments/%d/statuses", repo, found[0].ID),
			map[string]any{"state": state, "description": clip(v.Sentence, maxDescription), "auto_inactive": false}, nil)
	}
	var commit struct {
		SHA string `json:"sha"`
	}
	if err := c.call(ctx, http.MethodGet, repo+"/commits/"+url.PathEscape(ref), nil, &commit); err != nil {
		return err
	}
	if c.s.Report == "status" {
		state := map[verdict.Decision]string{verdict.Hold: "pending", verdict.Promote: "success", verdict.Rollback: "failure"}[v.Decision]
		return c.call(ctx, http.MethodPost, repo+"/statuses/"+commit.SHA, map[string]any{"state": state, "context": name, "description": clip(v.Sentence, maxDescription)}, nil)
	}
	run := map[string]any{"name": name, "head_sha": commit.SHA, "external_id": fmt.Sprint(v.Number), "output": map[string]any{"title": v.Decision.String(), "summary": v.Sentence}}
	switch v.Decision {
	case verdict.Promote:
		run["status"], run["conclusion"] = "completed", "success"
	case verdict.Rollback:
		run["status"], run["conclusion"] = "completed", "failure"
	default:
		run["status"] = "in_progress"
	}
	return c.call(ctx, http.MethodPost, repo+"/check-runs", run, nil)
}

// gitlab turns a feature flag off at a rollback, or sets the status of a commit
// (https://docs.gitlab.com/api/feature_flags, api/commits).
func gitlab(ctx context.Context, c *client, v *verdict.Verdict) error {
	c.header.Set("PRIVATE-TOKEN", c.s.Token)
	project := "/projects/" + url.PathEscape(c.s.Project)
	if c.s.Report == "flag" {
		if v.Decision != verdict.Rollback {
			return nil
		}
		return c.call(ctx, http.MethodPut, project+"/feature_flags/"+url.PathEscape(c.s.Flag), map[string]any{"active": false}, nil)
	}
	var commit struct {
		ID string `json:"id"`
	}
	if err := c.call(ctx, http.MethodGet, project+"/repository/commits/"+url.PathEscape(c.ref(v)), nil, &commit); err != nil {
		return err
	}
	name := "serin/" + v.Rollout
	state := map[verdict.Decision]string{verdict.Hold: "running", verdict.Promote: "success", verdict.Rollback: "failed"}[v.Decision]
	// GitLab refuses a state that a status has already, with a 400 that is not told from
	// others: a second hold, or a try after an answer that was lost.
	var found []struct {
		ID     int64  `json:"id"`
		Status string `json:"status"`
	}
	query := url.Values{"name": {name}, "per_page": {"100"}}
	if err := c.call(ctx, http.MethodGet, project+"/repository/commits/"+commit.ID+"/statuses?"+query.Encode(), nil, &found); err != nil {
		return err
	}
	newest, is := int64(0), ""
	for _, f := range found {
		if f.ID > newest {
			newest, is = f.ID, f.Status
		}
	}
	if is == state {
		return nil
	}
	return c.call(ctx, http.MethodPost, project+"/statuses/"+commit.ID, map[string]any{"state": state, "name": name, "description": clip(v.Sentence, 255)}, nil)
}

// launchDarkly turns a flag off at a rollback, by semantic patch
// (https://launchdarkly.com/docs/api/feature-flags/patch-feature-flag).
func launchDarkly(ctx context.Context, c *client, v *verdict.Verdict) error {
	if v.Decision != verdict.Rollback {
		return nil
	}
	c.header.Set("Authorization", c.s.Token)
	c.header.Set("Content-Type", "application/json; domain-model=launchdarkly.semanticpatch")
	return c.call(ctx, http.MethodPatch, "/api/v2/flags/"+url.PathEscape(c.s.Project)+"/"+url.PathEscape(c.s.Flag),
		map[string]any{"environmentKey": c.s.Environment, "comment": clip(v.Sentence, 500), "instructions": []map[string]string{{"kind": "turnFlagOff"}}}, nil)
}
