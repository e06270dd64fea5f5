import "@moq/watch/element";
