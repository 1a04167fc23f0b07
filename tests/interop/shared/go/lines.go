package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
)

// serve speaks the line protocol: `ready VERSION`, then for each line with a
// token `ok` or `no REASON`.
func serve(verify func(token string) error, modules ...string) {
	var versions []string
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if slices.Contains(modules, module.Path) {
				versions = append(versions, module.Path+" "+module.Version)
			}
		}
	}
	fmt.Println("ready", strings.Join(versions, ", "))
	tokens := bufio.NewScanner(os.Stdin)
	for tokens.Scan() {
		if err := verify(tokens.Text()); err != nil {
			fmt.Println("no", strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Println("ok")
		}
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return value
}
