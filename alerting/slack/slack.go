// Package slack tells incidents to a Slack channel by an incoming webhook.
package slack

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"serin.dev/serin/alerting/alert"
	"serin.dev/serin/alerting/webhook"
)

// Slack's limits, in characters and blocks.
const (
	maxSection = 3000
	maxBlocks  = 50
	maxText    = 3000
)

// Target is a channel's incoming webhook. Its URL is a secret: whoever has it may
// post.
type Target struct {
	URL    string
	Client webhook.Client
}

// Check reports what is wrong with the target, without its URL's path.
func (t *Target) Check() error {
	u, err := url.Parse(t.URL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || len(u.Path) < 2 {
		return fmt.Errorf("url: want that of an incoming webhook, https://hooks.slack.com/services/...")
	}
	return nil
}

type text struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

type block struct {
	Type string `json:"type"`
	Text *text  `json:"text,omitempty"`
}

// escape masks the three characters that have a meaning in Slack's markup; names
// come from outside, and must not ping a channel.
var escape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// Body returns the message of a notification: a text for clients that show no
// blocks, and a section for each item, of which at most 49 are shown.
func Body(n *alert.Notification) ([]byte, error) {
	titles := make([]string, 0, len(n.Items))
	var blocks []block
	for i := range n.Items {
		it := &n.Items[i]
		title := escape.Replace(it.Title())
		titles = append(titles, title)
		if len(blocks) < maxBlocks-1 {
			blocks = append(blocks, block{"section", &text{"mrkdwn", cut("*"+title+"*\n"+escape.Replace(strings.Join(it.Lines(), "\n")), maxSection)}})
		}
	}
	if more := len(n.Items) - len(blocks); more > 0 {
		blocks = append(blocks, block{"section", &text{"mrkdwn", fmt.Sprintf("and %d more of %s", more, escape.Replace(n.Stream))}})
	}
	data, err := json.Marshal(struct {
		Text   string  `json:"text"`
		Blocks []block `json:"blocks"`
	}{cut(strings.Join(titles, "\n"), maxText), blocks})
	if err != nil {
		return nil, fmt.Errorf("write a message: %w", err)
	}
	return data, nil
}

// cut shortens a text to n characters.
func cut(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

// Tell implements [webhook.Teller].
func (t *Target) Tell(ctx context.Context, m webhook.Message) (webhook.Answer, error) {
	a, err := webhook.Post(ctx, t.Client, t.URL, http.Header{"Content-Type": {"application/json"}}, m.Body)
	if err != nil {
		return a, withoutURL(err)
	}
	switch a.Status {
	case http.StatusNotFound, http.StatusGone: // the webhook, its channel or its app was removed
		return a, fmt.Errorf("%w: %.100q", webhook.ErrGone, a.Body)
	case http.StatusBadRequest, http.StatusForbidden:
		return a, fmt.Errorf("%w: %.100q", webhook.ErrRejected, a.Body)
	}
	return a, nil
}

// withoutURL takes the secret out of what net/http says.
func withoutURL(err error) error {
	if e, ok := err.(*url.Error); ok {
		return fmt.Errorf("post: %w", e.Err)
	}
	return err
}
