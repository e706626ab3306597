package main

import (
	"context"
	"flag"
	"fmt"
	"io"
)

// check reads a configuration as serve would, and reports all its faults.
func check(_ context.Context, args []string, stdout, stderr io.Writer) error {
	fs := flag.NewFlagSet("check", flag.ContinueOnError)
	rest, err := parse(fs, args, 1, stderr)
	if err != nil {
		return err
	}
	c, err := loadConfig(rest[0])
	if err != nil {
		return err
	}
	if _, err := c.directory(); err != nil {
		return fmt.Errorf("%s:\n%w", rest[0], err)
	}
	fmt.Fprintf(stdout, "%s: %d tenants, no faults\n", rest[0], len(c.Tenants))
	return nil
}
