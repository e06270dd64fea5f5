import "@moq/publish/element";
